import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "#libs/errors/errors.js";
import { WaitingLine, type Ticket } from "./waiting-line.js";

const NEVER = new AbortController().signal;

async function untilTurn(ticket: Ticket, signal = NEVER): Promise<number[]> {
  const positions = [];
  for await (const position of ticket.turn({ signal })) positions.push(position);
  return positions;
}

test("the first has its turn at once, the others in order and hear how far they are", async () => {
  const line = new WaitingLine(2);
  const [first, second, third] = [line.enter(), line.enter(), line.enter()];
  assert.deepEqual(await untilTurn(first), []);
  const [waitingSecond, waitingThird] = [untilTurn(second), untilTurn(third)];
  await new Promise(setImmediate);
  first.leave();
  assert.deepEqual(await waitingSecond, [1]);
  await new Promise(setImmediate);
  second.leave();
  assert.deepEqual(await waitingThird, [2, 1]);
  third.leave();
  assert.equal(line.waiting, 0);
});

test("a full line refuses with a retry delay, and lets in again once someone left", () => {
  const line = new WaitingLine(1);
  const first = line.enter();
  line.enter();
  assert.throws(() => line.enter(), (error: AppError) => error.kind === "overloaded" && error.retryDelayMs! > 0);
  first.leave();
  line.enter();
});

test("an abort while waiting ends the wait; the place is free after leave", async () => {
  const line = new WaitingLine(1);
  line.enter();
  const waiting = line.enter();
  const controller = new AbortController();
  const turn = untilTurn(waiting, controller.signal);
  await new Promise(setImmediate);
  const reason = new Error("gone");
  controller.abort(reason);
  await assert.rejects(turn, reason);
  waiting.leave();
  waiting.leave();
  assert.equal(line.waiting, 0);
});
