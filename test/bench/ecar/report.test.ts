import assert from "node:assert/strict";
import { test } from "node:test";
import { gainOf } from "./costs.js";
import { bestOf, equalOf, type DitRun, type Run } from "./report.js";

const run = (passes: number, score?: number): Run => (
  { name: `${passes}`, passes, macs: passes, seconds: 1, batchSeconds: 1, codecSeconds: 0, score }
);
const dits = (...scores: readonly (number | undefined)[]): DitRun[] => [250, 50, 25, 12].map((passes, place) => (
  { ...run(passes, scores[place]), gain: { fewerEvaluations: 1, smallHead: 1, coarseStages: 1 } }
));

test("the baseline is taken at its best score, the cheapest of several, and at most evaluations without scores", () => {
  assert.equal(bestOf(dits(0.7, 0.8, 0.8, 0.3)).passes, 25);
  assert.equal(bestOf(dits(0, 0, 0, 0)).passes, 12);
  assert.equal(bestOf(dits()).passes, 250);
});

test("equal is the cheapest baseline that is at most .02 worse; there may be none", () => {
  assert.equal(equalOf(run(15, 0.8), dits(0.9, 0.85, 0.785, 0.7))!.passes, 25);
  assert.equal(equalOf(run(15, 0.95), dits(0.9, 0.85, 0.785, 0.7)), undefined);
  assert.equal(equalOf(run(15), dits(0.9, 0.85, 0.785, 0.7)), undefined);
});

test("the three sources of the gain multiply up to it", () => {
  const { fewerEvaluations, smallHead, coarseStages } = gainOf({ dit: 1000, ditAtEqualEvaluations: 50, ecarWithoutPyramid: 20, ecar: 8 });
  assert.deepEqual([fewerEvaluations, smallHead, coarseStages], [20, 2.5, 2.5]);
  assert.equal(fewerEvaluations * smallHead * coarseStages, 1000 / 8);
});
