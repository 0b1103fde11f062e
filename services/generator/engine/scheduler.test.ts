import assert from "node:assert/strict";
import { test } from "node:test";
import { AGEING_MS, inTurn, lookAhead, planAdmission, planPrefill, type RunningSequence, type WaitingSequence } from "./scheduler.js";

const waiting = (id: number, change: Partial<WaitingSequence> = {}): WaitingSequence =>
  ({ id, rows: 2, priority: "normal", arrivedAt: id, ...change });
const running = (id: number, change: Partial<RunningSequence> = {}): RunningSequence =>
  ({ ...waiting(id), startedAt: id, ...change });

test("turns go by priority and then by arrival; the less urgent count as normal when they have waited long", () => {
  const queue = [waiting(1), waiting(2, { priority: "high" }), waiting(3, { priority: "low" }), waiting(4)];
  assert.deepEqual(inTurn(queue, 10).map(({ id }) => id), [2, 1, 4, 3]);
  const old = waiting(3, { priority: "low", arrivedAt: -9 * AGEING_MS });
  const [normal, high] = queue;
  assert.deepEqual(inTurn([normal, high, old], 10).map(({ id }) => id), [2, 3, 1]);
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

test("equal priorities never preempt each other, and who has aged is safe from all but the urgent", () => {
  const aged = running(1, { priority: "low", arrivedAt: -2 * AGEING_MS });
  assert.deepEqual(planAdmission([waiting(9)], [aged], 0, 10), { preempt: [], admit: [] });
  assert.deepEqual(planAdmission([waiting(9, { priority: "high" })], [aged], 0, 10), { preempt: [1], admit: [9] });
  const old = waiting(9, { priority: "low", arrivedAt: -2 * AGEING_MS });
  assert.deepEqual(planAdmission([old], [running(1)], 0, 10), { preempt: [], admit: [] });
});

test("an outlook tells who comes next, and counts who gives way among those that wait", () => {
  const [low, normal] = [running(1, { priority: "low" }), running(2)];
  const [urgent, last] = [running(8, { priority: "high" }), running(9, { priority: "low" })];
  const { admitted, running: kept, queue } = lookAhead([last, urgent], [low, normal], 0, 10);
  assert.deepEqual([[...admitted], kept, queue], [[urgent], [normal], [urgent, low, last]]);
});

test("prefill goes in chunks, in order, as far as the budget", () => {
  const prompts = [{ done: 0, total: 40 }, { done: 32, total: 100 }, { done: 0, total: 5 }];
  assert.deepEqual(planPrefill(prompts), [[32, 8], [32], []]);
  assert.deepEqual(planPrefill([{ done: 0, total: 5 }]), [[5]]);
});
