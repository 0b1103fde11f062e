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

/** A law over more tokens than two levels of the noise tree hold, with a ragged end, as logits and probabilities. */
function wideLaw(size: number): { readonly logits: Float32Array; readonly probabilities: readonly number[] } {
  const logits = Float32Array.from({ length: size }, (_, v) => Math.sin(v) + (v % 97 === 0 ? 4 : 0));
  const weights = Array.from(logits, Math.exp);
  const total = weights.reduce((a, b) => a + b);
  return { logits, probabilities: weights.map((weight) => weight / total) };
}

test("draws follow the softmax of the logits", () => {
  // 99.9 % of the chi-square distribution with 4 degrees of freedom lies under 18.47.
  assert.ok(chiSquare(LOGITS, PROBABILITIES, 20_000) < 18.47);
});

test("the same statistic catches a wrong law", () => {
  assert.ok(chiSquare(LOGITS, [0.47, 0.28, 0.125, 0.0625, 0.0625], 20_000) > 18.47);
});

test("draws follow the softmax over many levels of the noise, wherever in the codebook", () => {
  const { logits, probabilities } = wideLaw(4375);
  const bins = 50;
  const bin = (v: number) => (v % 97 === 0 ? 0 : 1 + Math.floor((v * (bins - 1)) / logits.length));
  const expected = new Float64Array(bins);
  probabilities.forEach((p, v) => (expected[bin(v)]! += p));
  const draws = 20_000;
  const counts = new Float64Array(bins);
  for (let position = 0; position < draws; position++) counts[bin(sample(logits, { seed: 5n, imageIndex: 1, position }))]!++;
  const statistic = expected.reduce((sum, p, b) => sum + (counts[b]! - draws * p) ** 2 / (draws * p), 0);
  // 99.9 % of the chi-square distribution with 49 degrees of freedom lies under 85.4.
  assert.ok(statistic < 85.4, `${statistic}`);
});

test("noise depends on seed, image and position alone, not on the logits", () => {
  const { logits } = wideLaw(300);
  const token = sample(logits, { seed: 1n, imageIndex: 2, position: 3 });
  const sharper = logits.slice();
  sharper[token]! += 1;
  assert.equal(sample(sharper, { seed: 1n, imageIndex: 2, position: 3 }), token);
  const others = [{ seed: 2n }, { imageIndex: 3 }, { position: 4 }, { seed: 1n + (1n << 32n) }];
  const tokens = others.map((change) => sample(logits, { seed: 1n, imageIndex: 2, position: 3, ...change }));
  assert.ok(tokens.some((other) => other !== token));
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

test("top-k agrees with a sort, negative and equal logits included", () => {
  const logits = Float32Array.from({ length: 3000 }, (_, v) => Math.round(40 * Math.sin(v * v)) / 8);
  const sorted = logits.slice().sort().reverse();
  for (const k of [1, 2, 17, 500, 2999]) {
    const kept = logits.slice();
    keepTopK(kept, k);
    assert.deepEqual(kept, logits.map((logit) => (logit >= sorted[k - 1]! ? logit : -Infinity)));
  }
});

test("top-p keeps the fewest tokens that reach p, at least one", () => {
  const kept = (p: number) => {
    const logits = LOGITS.slice();
    keepTopP(logits, p);
    return logits.filter(Number.isFinite).length;
  };
  assert.deepEqual([0.01, 0.5, 0.51, 0.8, 1].map(kept), [1, 1, 2, 3, 5]);
});

test("top-p finds a nucleus that reaches far below the most likely token", () => {
  const logits = Float32Array.from({ length: 4000 }, (_, v) => (v === 0 ? 0 : -6 - v / 1e4));
  keepTopP(logits, 0.9);
  const total = 1 + Array.from({ length: 3999 }, (_, v) => Math.exp(-6 - (v + 1) / 1e4)).reduce((a, b) => a + b);
  const kept = logits.filter(Number.isFinite);
  const mass = kept.reduce((sum, logit) => sum + Math.exp(logit), 0);
  assert.ok(mass >= 0.9 * total && mass - Math.exp(kept.at(-1)!) < 0.9 * total);
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

test("guidance extrapolates from the unconditional row and leaves the conditional one at 1", () => {
  const guided = (scale: number) => {
    const conditional = Float32Array.of(2, 0);
    guide(conditional, Float32Array.of(1, 1), scale);
    return [...conditional];
  };
  assert.deepEqual(guided(3), [4, -2]);
  assert.deepEqual(guided(1), [2, 0]);
});

test("the arg-max takes the smallest id of a tie", () => {
  assert.equal(argMax(Float32Array.of(1, 5, 5)), 1);
});
