import assert from "node:assert/strict";
import { test } from "node:test";
import { estimate, isHopeless } from "./admission.js";

const MS_PER_TOKEN = 10;
const guided = (tokens: number) => ({ rows: 2, tokens });

test("with free rows a request starts at once and takes as long as its tokens", () => {
  assert.deepEqual(estimate([], [], [guided(100)], 4, MS_PER_TOKEN), { startMs: 0, finishMs: 1000 });
});

test("a full cache makes it wait for the first to end, and for those ahead", () => {
  const running = [guided(30), guided(50)];
  assert.deepEqual(estimate(running, [], [guided(100)], 4, MS_PER_TOKEN), { startMs: 300, finishMs: 1300 });
  assert.deepEqual(estimate(running, [guided(100)], [guided(100)], 4, MS_PER_TOKEN), { startMs: 500, finishMs: 1500 });
});

test("a pair waits until two rows are free; the images of a request may start apart", () => {
  const singles = [{ rows: 1, tokens: 10 }, { rows: 1, tokens: 90 }];
  assert.deepEqual(estimate(singles, [], [guided(10)], 2, MS_PER_TOKEN), { startMs: 900, finishMs: 1000 });
  assert.deepEqual(estimate([], [], [guided(10), guided(20)], 2, MS_PER_TOKEN), { startMs: 0, finishMs: 300 });
});

test("a deadline is hopeless only well below the estimate", () => {
  const expected = { startMs: 0, finishMs: 1000 };
  assert.equal(isHopeless(expected, 850), false);
  assert.equal(isHopeless(expected, 700), true);
  assert.equal(isHopeless(expected, Infinity), false);
});
