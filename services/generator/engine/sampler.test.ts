import assert from "node:assert/strict";
import { test } from "node:test";
import { guide } from "./guidance.js";
import { keepTopK, keepTopP, processLogits } from "./logits-processors.js";
import { argMax, sample } from "./sampler.js";

const PROBABILITIES = [0.5, 0.25, 0.125, 0.0625, 0.0625];
const LOGITS = Float32Array.from(PROBABILITIES, Math.log);

/** Pearson's statistic of draws against expected shares. */
function chiSquare(logits: Float32Array, expected: readonly number[], draws: number): number {
  const counts = new Float64Array(expected.length);
  for (let position = 0; position < draws; position++) counts[sample(logits, { seed: 11n, imageIndex: 0, position })]!++;
  return expected.reduce((sum, p, v) => sum + (p === 0 ? 0 : (counts[v]! - draws * p) ** 2 / (draws * p)), 0);
}

test("draws follow the softmax of the logits", () => {
  // 99.9 % of the chi-square distribution with 4 degrees of freedom lies under 18.47.
  assert.ok(chiSquare(LOGITS, PROBABILITIES, 20_000) < 18.47);
});

test("the same statistic catches a wrong law", () => {
  assert.ok(chiSquare(LOGITS, [0.47, 0.28, 0.125, 0.0625, 0.0625], 20_000) > 18.47);
});

test("a token that was filtered out is never drawn", () => {
  const logits = LOGITS.slice();
  keepTopK(logits, 2);
  for (let position = 0; position < 2000; position++) {
    assert.ok(sample(logits, { seed: 3n, imageIndex: 0, position }) < 2);
  }
});

test("top-k keeps ties with its smallest token and ignores a k beyond the codebook", () => {
  const tied = Float32Array.of(3, 1, 2, 2, 0);
  keepTopK(tied, 2);
  assert.deepEqual([...tied], [3, -Infinity, 2, 2, -Infinity]);
  const all = LOGITS.slice();
  keepTopK(all, 99);
  assert.deepEqual(all, LOGITS);
});

test("top-p keeps the fewest tokens that reach p, at least one", () => {
  const kept = (p: number) => {
    const logits = LOGITS.slice();
    keepTopP(logits, p);
    return logits.filter(Number.isFinite).length;
  };
  assert.deepEqual([0.01, 0.5, 0.51, 0.8, 1].map(kept), [1, 1, 2, 3, 5]);
});

test("top-p keeps the smallest ids of a tie", () => {
  const tied = Float32Array.of(1, 1, 1, 1);
  keepTopP(tied, 0.5);
  assert.deepEqual([...tied], [1, 1, -Infinity, -Infinity]);
});

test("temperature comes before top-p", () => {
  const logits = LOGITS.slice();
  processLogits(logits, { temperature: 0.25, topK: 0, topP: 0.9 });
  assert.equal(logits.filter(Number.isFinite).length, 1);
});

test("guidance extrapolates from the unconditional row and gives the conditional one back at 1", () => {
  assert.deepEqual([...guide(Float32Array.of(2, 0, 1, 1), 3)], [4, -2]);
  assert.deepEqual([...guide(Float32Array.of(2, 0, 1, 1), 1)], [2, 0]);
});

test("the arg-max takes the smallest id of a tie", () => {
  assert.equal(argMax(Float32Array.of(1, 5, 5)), 1);
});
