import assert from "node:assert/strict";
import { test } from "node:test";
import { gainOf } from "./costs.js";
import { bestOf, cheapestOf, equalOf, type DitRun, type Run } from "./report.js";

const run = (passes: number, score?: number): Run => (
  { name: `${passes}`, passes, macs: passes, seconds: 1, batchSeconds: 1, codecSeconds: 0, score }
);
const dits = (...scores: readonly (number | undefined)[]): DitRun[] => [250, 50, 25, 12].map((passes, place) => (
  { ...run(passes, scores[place]), gain: { fewerEvaluations: 1, noGuidance: 1, smallHead: 1, coarseStages: 1 } }
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

test("E-CAR is taken at the cheapest setting that is at most .02 worse than the baseline, at its best if none is, as asked without scores", () => {
  assert.equal(cheapestOf([run(8, 0.3), run(4, 0.25), run(2, 0.2)], run(50, 0.27)).passes, 4);
  assert.equal(cheapestOf([run(8, 0.3), run(4, 0.4)], run(50, 0.5)).passes, 4);
  assert.equal(cheapestOf([run(8), run(4)], run(50)).passes, 8);
});

test("the sources of the gain multiply up to it", () => {
  const { fewerEvaluations, noGuidance, smallHead, coarseStages } = gainOf({
    dit: 1000, ditAtEqualEvaluations: 50, ditWithoutGuidance: 25, ecarWithoutPyramid: 10, ecar: 4,
  });
  assert.deepEqual([fewerEvaluations, noGuidance, smallHead, coarseStages], [20, 2, 2.5, 2.5]);
  assert.equal(fewerEvaluations * noGuidance * smallHead * coarseStages, 1000 / 4);
});
