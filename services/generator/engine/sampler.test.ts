import assert from "node:assert/strict";
import { test } from "node:test";
import { guide } from "./guidance.js";
import type { Law } from "./law.js";
import { keepLargest, keepTopK, keepTopP, processLogits } from "./logits-processors.js";
import { sample } from "./sampler.js";

const PROBABILITIES = [0.5, 0.25, 0.125, 0.0625, 0.0625];
const LAW = lawOf(...PROBABILITIES.map(Math.log));

function lawOf(...logits: readonly number[]): Law {
  return { codebookSize: logits.length, logits: Float32Array.from(logits) };
}

/** The tokens that a law has left. */
function left({ tokens, logits }: Law): readonly number[] {
  return [...(tokens ?? logits.keys())];
}

/** Pearson's statistic of draws against expected shares. */
function chiSquare(law: Law, expected: readonly number[], draws: number): number {
  const counts = new Float64Array(expected.length);
  for (let position = 0; position < draws; position++) counts[sample(law, { seed: 11n, imageIndex: 0, position })]++;
  return expected.reduce((sum, p, v) => sum + (p === 0 ? 0 : (counts[v] - draws * p) ** 2 / (draws * p)), 0);
}

/** A law over more tokens than two levels of the noise tree hold, with a ragged end, and its probabilities. */
function wideLaw(codebookSize: number): { readonly law: Law; readonly shares: readonly number[] } {
  const logits = Float32Array.from({ length: codebookSize }, (_, v) => Math.sin(v) + (v % 97 === 0 ? 4 : 0));
  const weights = Array.from(logits, Math.exp);
  const total = weights.reduce((a, b) => a + b);
  return { law: { codebookSize, logits }, shares: weights.map((weight) => weight / total) };
}

test("draws follow the softmax of the logits", () => {
  // 99.9 % of the chi-square distribution with 4 degrees of freedom lies under 18.47.
  assert.ok(chiSquare(LAW, PROBABILITIES, 20_000) < 18.47);
});

test("the same statistic catches a wrong law", () => {
  assert.ok(chiSquare(LAW, [0.47, 0.28, 0.125, 0.0625, 0.0625], 20_000) > 18.47);
});

test("draws follow the softmax over many levels of the noise, wherever in the codebook", () => {
  const { law, shares } = wideLaw(4375);
  const bins = 50;
  const bin = (v: number) => (v % 97 === 0 ? 0 : 1 + Math.floor((v * (bins - 1)) / shares.length));
  const expected = new Float64Array(bins);
  shares.forEach((p, v) => (expected[bin(v)] += p));
  const draws = 20_000;
  const counts = new Float64Array(bins);
  for (let position = 0; position < draws; position++) counts[bin(sample(law, { seed: 5n, imageIndex: 1, position }))]++;
  const statistic = expected.reduce((sum, p, b) => sum + (counts[b] - draws * p) ** 2 / (draws * p), 0);
  // 99.9 % of the chi-square distribution with 49 degrees of freedom lies under 85.4.
  assert.ok(statistic < 85.4, `${statistic}`);
});

test("a law of few tokens is drawn from as the whole one with the others forbidden", () => {
  const { law } = wideLaw(4375);
  for (const count of [2, 20, 200, 2000]) {
    const tokens = Uint32Array.from({ length: count }, (_, i) => Math.floor((i * 4375) / count));
    const few: Law = { codebookSize: 4375, tokens, logits: Float32Array.from(tokens, (token) => law.logits[token]) };
    const forbidden: Law = { codebookSize: 4375, logits: law.logits.map((logit, v) => (tokens.includes(v) ? logit : -Infinity)) };
    for (let position = 0; position < 50; position++) {
      const address = { seed: 9n, imageIndex: 0, position };
      assert.equal(sample(few, address), sample(forbidden, address));
    }
  }
});

test("noise depends on seed, image and position alone, not on the logits", () => {
  const { law } = wideLaw(300);
  const address = { seed: 1n, imageIndex: 2, position: 3 };
  const token = sample(law, address);
  const sharper = law.logits.slice();
  sharper[token] += 1;
  assert.equal(sample({ codebookSize: 300, logits: sharper }, address), token);
  const others = [{ seed: 2n }, { imageIndex: 3 }, { position: 4 }, { seed: 1n + (1n << 32n) }];
  const tokens = others.map((change) => sample(law, { ...address, ...change }));
  assert.ok(tokens.some((other) => other !== token));
});

test("top-k keeps ties with its smallest token and ignores a k beyond the codebook", () => {
  assert.deepEqual(left(keepTopK(lawOf(3, 1, 2, 2, 0), 2)), [0, 2, 3]);
  assert.equal(keepTopK(LAW, 99), LAW);
  assert.equal(keepTopK(LAW, 0), LAW);
});

test("top-k agrees with a sort, negative and equal logits included", () => {
  const logits = Array.from({ length: 3000 }, (_, v) => Math.round(40 * Math.sin(v * v)) / 8);
  const sorted = logits.toSorted((a, b) => b - a);
  for (const k of [1, 2, 17, 500, 2999]) {
    const expected = [...logits.keys()].filter((v) => logits[v] >= sorted[k - 1]);
    assert.deepEqual(left(keepTopK(lawOf(...logits), k)), expected);
  }
});

test("top-p keeps the fewest tokens that reach p, at least one", () => {
  assert.deepEqual([0.01, 0.499, 0.51, 0.8, 1].map((p) => left(keepTopP(LAW, p)).length), [1, 1, 2, 3, 5]);
});

test("top-p finds a nucleus that reaches far below the most likely token", () => {
  const logits = Array.from({ length: 4000 }, (_, v) => (v === 0 ? 0 : -6 - v / 1e4));
  const weights = logits.map(Math.exp);
  const total = weights.reduce((a, b) => a + b);
  const kept = left(keepTopP(lawOf(...logits), 0.9));
  const mass = kept.reduce((sum, v) => sum + weights[v], 0);
  assert.ok(mass >= 0.9 * total && mass - weights[kept.at(-1)!] < 0.9 * total);
});

test("top-p keeps the smallest ids of a tie", () => {
  assert.deepEqual(left(keepTopP(lawOf(1, 1, 1, 1), 0.5)), [0, 1]);
});

test("temperature comes before top-p, top-k too", () => {
  const settings = { temperature: 0.25, topK: 0, topP: 0.9 };
  assert.deepEqual(left(processLogits(LAW.logits.slice(), settings)), [0]);
  const both = processLogits(LAW.logits.slice(), { temperature: 1, topK: 2, topP: 0.9 });
  assert.deepEqual(left(both), [0, 1]);
  assert.deepEqual(left(processLogits(LAW.logits.slice(), { temperature: 1, topK: 2, topP: 0.6 })), [0]);
});

test("temperature 0 leaves the most likely token, the smallest id of a tie", () => {
  assert.deepEqual(left(keepLargest(lawOf(1, 5, 5))), [1]);
  assert.deepEqual(left(processLogits(Float32Array.of(1, 5, 5), { temperature: 0, topK: 0, topP: 1 })), [1]);
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
