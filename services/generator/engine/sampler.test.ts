import assert from "node:assert/strict";
import { test } from "node:test";
import { GumbelNoise } from "./gumbel-noise.js";
import type { Law } from "./law.js";
import { LawKernel } from "./law-kernel.js";
import { sample } from "./sampler.js";

const PROBABILITIES = [0.5, 0.25, 0.125, 0.0625, 0.0625];
const LAW = lawOf(PROBABILITIES.map(Math.log));

function lawOf(logits: readonly number[], topP = 1): Law {
  const settings = { guidanceScale: 1, temperature: 1, topK: 0, topP, repetitionPenalty: 1 };
  return new LawKernel(logits.length).law([Float32Array.from(logits)], settings);
}

/** Pearson's statistic of draws against expected shares. */
function chiSquare(law: Law, expected: readonly number[], draws: number): number {
  const counts = new Float64Array(expected.length);
  for (let position = 0; position < draws; position++) counts[sample(law, { seed: 11n, imageIndex: 0, position })]++;
  return expected.reduce((sum, p, v) => sum + (p === 0 ? 0 : (counts[v] - draws * p) ** 2 / (draws * p)), 0);
}

/** Logits of more tokens than two levels of the noise tree hold, with a ragged end. */
function wideLogits(codebookSize: number): readonly number[] {
  return Array.from({ length: codebookSize }, (_, v) => Math.sin(v) + (v % 97 === 0 ? 4 : 0));
}

test("draws follow the softmax of the logits", () => {
  // 99.9 % of the chi-square distribution with 4 degrees of freedom lies under 18.47.
  assert.ok(chiSquare(LAW, PROBABILITIES, 20_000) < 18.47);
});

test("the same statistic catches a wrong law", () => {
  assert.ok(chiSquare(LAW, [0.47, 0.28, 0.125, 0.0625, 0.0625], 20_000) > 18.47);
});

test("draws follow the softmax over many levels of the noise, wherever in the codebook", () => {
  const logits = wideLogits(4375);
  const law = lawOf(logits);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
  const shares = logits.map((logit) => Math.exp(logit) / total);
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

test("a law with a floor is drawn from as the whole one with the others forbidden", () => {
  const logits = wideLogits(4375);
  for (const topP of [0.001, 0.01, 0.2, 0.6, 0.99]) {
    const law = lawOf(logits, topP);
    const { floor, lastTie } = law;
    assert.ok(floor > -Infinity);
    const forbidden = lawOf(logits.map((logit, v) => {
      const own = Math.fround(logit);
      return own > floor || (own === floor && v <= lastTie) ? own : -Infinity;
    }));
    for (let position = 0; position < 50; position++) {
      const address = { seed: 9n, imageIndex: 0, position };
      assert.equal(sample(law, address), sample(forbidden, address));
    }
  }
});

test("a draw is the arg-max of logit and noise", () => {
  for (const size of [2, 64, 65, 1000, 4375]) {
    const logits = wideLogits(size);
    for (let position = 0; position < 20; position++) {
      const address = { seed: 3n, imageIndex: 0, position };
      const noise = new GumbelNoise(size, address);
      const scores = logits.map((logit, token) => Math.fround(logit) + noise.of(token));
      assert.equal(sample(lawOf(logits), address), scores.indexOf(Math.max(...scores)));
    }
  }
});

test("noise depends on seed, image and position alone, not on the logits", () => {
  const logits = wideLogits(300);
  const address = { seed: 1n, imageIndex: 2, position: 3 };
  const token = sample(lawOf(logits), address);
  assert.equal(sample(lawOf(logits.map((logit, v) => (v === token ? logit + 1 : logit))), address), token);
  const others = [{ seed: 2n }, { imageIndex: 3 }, { position: 4 }, { seed: 1n + (1n << 32n) }];
  const tokens = others.map((change) => sample(lawOf(logits), { ...address, ...change }));
  assert.ok(tokens.some((other) => other !== token));
});
