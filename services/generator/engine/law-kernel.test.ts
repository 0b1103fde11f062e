import assert from "node:assert/strict";
import { test } from "node:test";
import type { Law } from "./law.js";
import { isAllowed, probabilities } from "./law.js";
import { LawKernel, type LawSettings } from "./law-kernel.js";

const PROBABILITIES = [0.5, 0.25, 0.125, 0.0625, 0.0625];
const LOGITS = PROBABILITIES.map(Math.log);

const PLAIN: LawSettings = { guidanceScale: 1, temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 };

function lawOf(logits: readonly number[], settings: Partial<LawSettings> = {}): Law {
  return new LawKernel(logits.length).law([Float32Array.from(logits)], { ...PLAIN, ...settings });
}

/** The tokens that may be drawn. */
function left(logits: readonly number[], settings: Partial<LawSettings>): readonly number[] {
  const law = lawOf(logits, settings);
  return logits.flatMap((_, token) => (isAllowed(law, token) ? [token] : []));
}

/** Top-k, then top-p, by sorting; of equal logits the smaller id first. */
function leftBySorting(logits: readonly number[], topK: number, topP: number): readonly number[] {
  const best = [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b);
  const kept = topK === 0 ? best : best.filter((token) => logits[token] >= logits[best[topK - 1]]);
  const weights = kept.map((token) => Math.exp(logits[token] - logits[best[0]]));
  const total = weights.reduce((a, b) => a + b);
  let weight = 0;
  const count = topP === 1 ? kept.length : 1 + weights.findIndex((each) => (weight += each) >= topP * total);
  return kept.slice(0, count).sort((a, b) => a - b);
}

test("guidance extrapolates from the unconditional row; a single row and scale 1 leave the conditional one as it is", () => {
  const kernel = new LawKernel(70);
  const conditional = Float32Array.from({ length: 70 }, (_, v) => Math.sin(v));
  const unconditional = Float32Array.from({ length: 70 }, (_, v) => Math.cos(v));
  for (const guidanceScale of [1, 1.5, 6]) {
    const { logits } = kernel.law([conditional, unconditional], { ...PLAIN, guidanceScale });
    for (const [v, u] of unconditional.entries()) {
      assert.ok(Math.abs(logits[v] - (u + guidanceScale * (conditional[v] - u))) < 2e-6);
    }
  }
  assert.deepEqual(kernel.law([conditional], { ...PLAIN, guidanceScale: 6 }).logits, conditional);
  assert.equal(conditional[1], Math.fround(Math.sin(1)), "the rows stay as they are");
});

test("the repetition penalty makes tokens that were seen less likely, each once, on the conditional row alone", () => {
  const kernel = new LawKernel(4);
  const rows = [Float32Array.of(2, -2, 1, 0), Float32Array.of(1, 1, 1, 1)];
  const penalised = { ...PLAIN, repetitionPenalty: 2 };
  assert.deepEqual([...kernel.law([rows[0]], penalised, [0, 1, 1, 0]).logits], [1, -4, 1, 0]);
  assert.deepEqual([...kernel.law(rows, { ...penalised, guidanceScale: 3 }, [0, 1]).logits], [1, -14, 1, -2]);
  assert.deepEqual([...kernel.law([rows[0]], PLAIN, [0, 1]).logits], [2, -2, 1, 0]);
});

test("the tops are the largest logits of their groups, the last of which need not be full", () => {
  for (const size of [1, 3, 64, 65, 200, 4375]) {
    const logits = Array.from({ length: size }, (_, v) => Math.fround(Math.sin(v * v) - 2));
    const { tops } = lawOf(logits);
    assert.deepEqual([...tops], Array.from({ length: Math.ceil(size / 64) }, (_, g) => Math.max(...logits.slice(64 * g, 64 * (g + 1)))));
  }
});

test("top-k keeps ties with its smallest token and ignores a k beyond the codebook", () => {
  assert.deepEqual(left([3, 1, 2, 2, 0], { topK: 2 }), [0, 2, 3]);
  assert.deepEqual(left(LOGITS, { topK: 99 }), [0, 1, 2, 3, 4]);
  assert.deepEqual(left(LOGITS, { topK: 0 }), [0, 1, 2, 3, 4]);
});

test("top-p keeps the fewest tokens that reach p, at least one", () => {
  assert.deepEqual([0.01, 0.499, 0.51, 0.8, 1].map((topP) => left(LOGITS, { topP }).length), [1, 1, 2, 3, 5]);
});

test("top-p keeps the smallest ids of a tie", () => {
  assert.deepEqual(left([1, 1, 1, 1], { topP: 0.5 }), [0, 1]);
  assert.deepEqual(left(Array.from({ length: 300 }, () => -3), { topP: 0.5 }), Array.from({ length: 150 }, (_, v) => v));
});

test("top-p finds a nucleus that reaches far below the most likely token", () => {
  const logits = Array.from({ length: 4000 }, (_, v) => (v === 0 ? 0 : -17 - v / 1e4));
  const kept = left(logits, { topP: 0.999995 });
  const weights = logits.map(Math.exp);
  const total = weights.reduce((a, b) => a + b);
  const mass = kept.reduce((sum, v) => sum + weights[v], 0);
  assert.ok(kept.length > 1 && mass >= 0.999995 * total - 1e-9 && mass - weights[kept.at(-1)!] < 0.999995 * total + 1e-9);
});

/** Top-p holds to what the weights of a whole codebook can tell: logits are float32. */
function assertNucleus(logits: readonly number[], topP: number): void {
  const isKept = new Set(left(logits, { topP }));
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  const kept = [...isKept].map((token) => logits[token]);
  const mass = kept.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  const edge = kept.reduce((a, b) => Math.min(a, b));
  assert.ok(mass >= (topP - 1e-6) * total, `${mass / total} of ${topP}`);
  assert.ok(mass - Math.exp(edge - largest) < (topP + 1e-6) * total, `${mass / total} of ${topP}: one too many`);
  assert.equal(logits.findIndex((logit, token) => logit > edge && !isKept.has(token)), -1, "a likelier token is left out");
}

test("top-p of a flat law over a large codebook keeps the fewest tokens that reach p", () => {
  const flat = Array.from({ length: 64_000 }, (_, v) => Math.fround(3 * Math.log(Math.abs(Math.sin(v * 12.9898)) + 1e-3)));
  const steps = flat.map((logit) => Math.round(4 * logit) / 4); // has 0 and -0, which tie
  const level = flat.map((logit) => logit / 1000);
  for (const logits of [flat, steps, level, flat.map((logit, v) => (v % 3 === 0 ? -Infinity : logit))]) {
    for (const topP of [0.999, 0.9, 0.5, 0.1, 0.005]) assertNucleus(logits, topP);
  }
});

test("top-p of a flat law holds where a few tokens of each group tell nothing of the others", () => {
  const sampled = (v: number) => [0, 32].includes((v % 64 - (Math.floor(v / 64) * 29) % 64 + 64) % 64);
  for (const [inside, outside] of [[0, -2], [-2, 0], [-1, -1.5]]) {
    const logits = Array.from({ length: 64_000 }, (_, v) => Math.fround((sampled(v) ? inside : outside) + Math.sin(v) / 4));
    for (const topP of [0.95, 0.9, 0.5, 0.1]) assertNucleus(logits, topP);
  }
});

test("all settings agree with a sort: many sizes, negative, equal and impossible logits included", () => {
  for (const size of [2, 5, 63, 64, 300, 4375, 9000]) {
    const coarse = Array.from({ length: size }, (_, v) => Math.round(40 * Math.sin(v * v)) / 8);
    const steep = Array.from({ length: size }, (_, v) => Math.fround(v % 7 === 3 ? -Infinity : 12 * Math.sin(v * 1.7 + v * v)));
    for (const logits of [coarse, steep]) {
      const possible = (token: number) => logits[token] > -Infinity;
      for (const topK of [0, 1, 2, 17, 66, 1000, size - 1].filter((k) => k < size)) {
        for (const topP of [1, 0.9, 0.5, 0.01]) {
          assert.deepEqual(left(logits, { topK, topP }), leftBySorting(logits, topK, topP).filter(possible), `${size}, top-k ${topK}, top-p ${topP}`);
        }
      }
    }
  }
});

test("temperature comes before top-p, top-k too", () => {
  assert.deepEqual(left(LOGITS, { temperature: 0.25, topP: 0.9 }), [0]);
  assert.deepEqual(left(LOGITS, { topK: 2, topP: 0.9 }), [0, 1]);
  assert.deepEqual(left(LOGITS, { topK: 2, topP: 0.6 }), [0]);
});

test("temperature 0 leaves the most likely token, the smallest id of a tie", () => {
  assert.deepEqual(left([1, 5, 5], { temperature: 0 }), [1]);
  assert.deepEqual(left([...Array.from({ length: 500 }, () => -1), 2, 2], { temperature: 0, topK: 5, topP: 0.5 }), [500]);
});

test("the next law has nothing of the one before", () => {
  const kernel = new LawKernel(5);
  kernel.law([Float32Array.of(9, 9, 9, 9, 9), Float32Array.of(1, 2, 3, 4, 5)], { ...PLAIN, guidanceScale: 3, topK: 1 });
  const law = kernel.law([Float32Array.from(LOGITS)], PLAIN);
  assert.deepEqual([...probabilities(law)], PROBABILITIES.map(Math.fround));
});
