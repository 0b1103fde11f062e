import assert from "node:assert/strict";
import { test } from "node:test";
import { REQUEST } from "#test/doubles/engine-run.js";
import { acceptanceIn, chooseDraftWindow, expectedTokens, freshAcceptance } from "./draft-window.js";
import { PassCost } from "./pass-cost.js";
import { Sequence } from "./sequence.js";

/** A machine that reads weights for 3 ms and then computes 0.1 ms a position. */
const passMs = (positions: number) => Math.max(3, 0.1 * positions) + 0.02 * positions;
const choose = (acceptance: readonly number[], rows = 2 * acceptance.length) =>
  chooseDraftWindow({ acceptance, rows, passMs, lawMs: 0.05 });

test("good drafts on an idle machine make the window wide, bad ones close it", () => {
  assert.ok(choose([0.95]) >= 8);
  assert.ok(choose([0.5]) > 1 && choose([0.5]) < choose([0.95]));
  assert.equal(choose([0.02]), 1);
});

test("a full batch closes the window, however good the drafts", () => {
  assert.ok(choose(Array.from({ length: 8 }, () => 0.9)) < choose([0.9]));
  assert.equal(choose(Array.from({ length: 64 }, () => 0.9)), 1);
});

test("a machine that computes for nothing takes the widest window, one that charges by the position none", () => {
  const flat = chooseDraftWindow({ acceptance: [0.99], rows: 2, passMs: () => 5, lawMs: 0 });
  const linear = chooseDraftWindow({ acceptance: [0.9], rows: 2, passMs: (positions) => positions, lawMs: 0 });
  assert.deepEqual([flat, linear], [64, 1]);
});

test("drafts are right more often the longer they have been looked at, unless they are worth nothing", () => {
  assert.deepEqual([acceptanceIn(1, 0.3), acceptanceIn(2, 0.3), acceptanceIn(64, 0), acceptanceIn(64, 1)], [0.3, 0.3, 0, 1]);
  assert.ok(acceptanceIn(64, 0.3) > acceptanceIn(4, 0.3) && acceptanceIn(4, 0.3) > 0.3);
  assert.ok(Math.abs(freshAcceptance(16, acceptanceIn(16, 0.3)) - 0.3) < 1e-12);
});

test("a sequence learns how good fresh drafts are from windows of any size", () => {
  for (const window of [2, 8, 64]) {
    const sequence = new Sequence(0, REQUEST, REQUEST.images[0], 0.6);
    const rightOf10 = Math.round(10 * acceptanceIn(window, 0.4));
    for (let i = 0; i < 100; i++) sequence.observe(window, 10, rightOf10);
    assert.ok(Math.abs(acceptanceIn(window, sequence.acceptance) - rightOf10 / 10) < 0.01);
    for (let i = 0; i < 200; i++) sequence.observe(window, 1, 0);
    assert.ok(sequence.acceptance < 0.02, `${sequence.acceptance}`);
  }
});

test("expected tokens are those of a run of successes", () => {
  assert.equal(expectedTokens(0, 8), 1);
  assert.equal(expectedTokens(1, 8), 8);
  assert.equal(expectedTokens(0.5, 3), 1.75);
});

test("pass costs are learned by size, in between and beyond", () => {
  const cost = new PassCost();
  assert.equal(cost.estimate(7), 1);
  for (let i = 0; i < 100; i++) {
    cost.observe(2, 3);
    cost.observe(16, 10);
  }
  assert.deepEqual([1, 2, 9, 16, 64].map((positions) => cost.estimate(positions)), [3, 3, 6.5, 10, 40]);
  for (let i = 0; i < 300; i++) cost.observe(16, 20);
  assert.ok(Math.abs(cost.estimate(16) - 20) < 0.1);
});

test("a size that was slow once is not taken to be slow for good", () => {
  const cost = new PassCost();
  for (const [positions, ms] of [[2, 3], [16, 10], [16, 500], [16, 10]]) cost.observe(positions, ms);
  assert.ok(cost.estimate(16) < 12);
  for (let i = 0; i < 50; i++) cost.observe(16, 40);
  for (let i = 0; i < 100; i++) cost.observe(2, 3);
  assert.ok(cost.estimate(16) < 20, `${cost.estimate(16)}: what slowed the machine then is over`);
});
