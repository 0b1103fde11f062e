import assert from "node:assert/strict";
import { test } from "node:test";
import { AGEING_MS, inTurn, planAdmission, planPrefill, type RunningSequence, type WaitingSequence } from "./scheduler.js";

const waiting = (id: number, change: Partial<WaitingSequence> = {}): WaitingSequence =>
  ({ id, rows: 2, priority: "normal", arrivedAt: id, ...change });
const running = (id: number, change: Partial<RunningSequence> = {}): RunningSequence =>
  ({ ...waiting(id), startedAt: id, ...change });

test("turns go by priority and then by arrival; waiting long raises the class", () => {
  const queue = [waiting(1), waiting(2, { priority: "high" }), waiting(3, { priority: "low" }), waiting(4)];
  assert.deepEqual(inTurn(queue, 10).map(({ id }) => id), [2, 1, 4, 3]);
  const old = waiting(3, { priority: "low", arrivedAt: -2 * AGEING_MS });
  assert.deepEqual(inTurn([...queue.slice(0, 2), old], 10).map(({ id }) => id), [3, 2, 1]);
});

test("free rows are filled in turn, and nobody overtakes who does not fit", () => {
  assert.deepEqual(planAdmission([waiting(1), waiting(2), waiting(3)], [], 4, 10), { preempt: [], admit: [1, 2] });
  assert.deepEqual(planAdmission([waiting(1), waiting(2, { rows: 1 })], [], 1, 10), { preempt: [], admit: [] });
});

test("the urgent take the rows of the least urgent, the latest started first, and no more than they need", () => {
  const atWork = [running(1, { priority: "low", rows: 1 }), running(2, { priority: "low" }), running(3, { priority: "normal" })];
  assert.deepEqual(planAdmission([waiting(9, { priority: "high" })], atWork, 0, 10), { preempt: [2], admit: [9] });
  const two = [waiting(8, { priority: "high" }), waiting(9, { priority: "high" })];
  assert.deepEqual(planAdmission(two, atWork, 0, 10), { preempt: [2, 1, 3], admit: [8, 9] });
  assert.deepEqual(planAdmission([waiting(9)], [running(3)], 0, 10), { preempt: [], admit: [] });
});

test("equal priorities never preempt each other, and who has aged is safe", () => {
  const aged = running(1, { priority: "low", arrivedAt: -2 * AGEING_MS });
  assert.deepEqual(planAdmission([waiting(9, { priority: "high" })], [aged], 0, 10), { preempt: [], admit: [] });
  const old = waiting(9, { priority: "low", arrivedAt: -2 * AGEING_MS });
  assert.deepEqual(planAdmission([old], [running(1)], 0, 10), { preempt: [], admit: [] });
});

test("prefill goes in chunks, in order, as far as the budget", () => {
  const prompts = [{ done: 0, total: 40 }, { done: 32, total: 100 }, { done: 0, total: 5 }];
  assert.deepEqual(planPrefill(prompts), [[32, 8], [32], []]);
  assert.deepEqual(planPrefill([{ done: 0, total: 5 }]), [[5]]);
});
