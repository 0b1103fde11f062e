import assert from "node:assert/strict";
import { test } from "node:test";
import { openUniform, philox4x32 } from "#libs/random/philox.js";
import { acceptProbability, type Draft, drawCorrection, drawFrom, verifyByRejection, verifyCoupled } from "./speculative.js";

/** A stream of numbers in (0, 1). */
function uniforms(stream: number): () => number {
  const words = new Uint32Array(4);
  let drawn = 0;
  return () => {
    if (drawn % 4 === 0) philox4x32(drawn >>> 2, stream, 0, 0, 5, 6, words);
    return openUniform(words[drawn++ % 4]);
  };
}

const CODEBOOK = 3;
const LENGTH = 5;

/** The law of the next token after a prefix: random, but always the same; sharp, so that a slip shows. */
function lawAfter(prefix: readonly number[]): Float32Array {
  const next = uniforms(prefix.reduce((digest, token) => digest * (CODEBOOK + 1) + token + 1, 7));
  const weights = Float32Array.from({ length: CODEBOOK }, () => next() ** 3);
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

const uniformLaw = new Float32Array(CODEBOOK).fill(1 / CODEBOOK);

/** How drafts and their laws are handled; the tests break it on purpose. */
type Verify = typeof verifyByRejection;

/** One sequence by speculation with windows of `window`, each pass looking at the drafts before a position as its prefix. */
function speculate(random: () => number, window: number, verify: Verify): readonly number[] {
  const tokens: number[] = [];
  let drafts: readonly Draft[] = [];
  while (tokens.length < LENGTH) {
    const room = Math.min(window, LENGTH - tokens.length);
    const fed = drafts.slice(0, room - 1);
    while (fed.length < room - 1) fed.push({ token: drawFrom(uniformLaw, random()), law: uniformLaw });
    const laws = Array.from({ length: room }, (_, j) => lawAfter([...tokens, ...fed.slice(0, j).map(({ token }) => token)]));
    const verified = verify(laws, fed, laws.map(() => [random(), random()] as const));
    tokens.push(...verified.tokens);
    drafts = verified.drafts;
  }
  return tokens;
}

/** Probabilities of all sequences, in the order of their digits. */
function jointLaw(): readonly number[] {
  let all: readonly { readonly prefix: readonly number[]; readonly p: number }[] = [{ prefix: [], p: 1 }];
  for (let i = 0; i < LENGTH; i++) {
    all = all.flatMap(({ prefix, p }) => [...lawAfter(prefix)].map((q, token) => ({ prefix: [...prefix, token], p: p * q })));
  }
  return all.map(({ p }) => p);
}

/** How many deviations Pearson's statistic lies from its mean, over sequences expected at least five times. */
function deviation(window: number, verify: Verify, draws = 100_000): number {
  const expected = jointLaw();
  const counts = new Float64Array(expected.length);
  const random = uniforms(window);
  for (let i = 0; i < draws; i++) {
    counts[speculate(random, window, verify).reduce((index, token) => index * CODEBOOK + token, 0)]++;
  }
  let statistic = 0;
  let cells = 0;
  for (const [i, p] of expected.entries()) {
    if (p * draws < 5) continue;
    statistic += (counts[i] - p * draws) ** 2 / (p * draws);
    cells++;
  }
  return (statistic - cells) / Math.sqrt(2 * cells);
}

test("coupling commits drafts as long as they are what plain decoding draws, then the correction", () => {
  const drafts = [{ token: 4 }, { token: 5 }, { token: 6 }];
  assert.deepEqual(verifyCoupled([4, 9, 6, 7], drafts), { tokens: [4, 9], drafts: [{ token: 6 }, { token: 7 }], evaluated: 2 });
  assert.deepEqual(verifyCoupled([4, 5, 6, 7], drafts), { tokens: [4, 5, 6, 7], drafts: [], evaluated: 3 });
  assert.deepEqual(verifyCoupled([8], []), { tokens: [8], drafts: [], evaluated: 0 });
});

test("a draft of the target's own law is always accepted, one of another's by the ratio, an impossible one never", () => {
  const target = Float32Array.of(0.25, 0.75, 0);
  assert.equal(acceptProbability(target, { token: 1, law: target }), 1);
  assert.equal(acceptProbability(target, { token: 0, law: Float32Array.of(0.5, 0.5, 0) }), 0.5);
  assert.equal(acceptProbability(target, { token: 2, law: Float32Array.of(0, 0, 1) }), 0);
});

test("a correction comes from what the draft's law lacks; from the target if that is nothing", () => {
  const target = Float32Array.of(0.2, 0.5, 0.3);
  for (const u of [0.01, 0.5, 0.99]) assert.equal(drawCorrection(target, Float32Array.of(0.3, 0.4, 0.3), u), 1);
  assert.deepEqual([0.1, 0.5, 0.9].map((u) => drawCorrection(target, target, u)), [0, 1, 2]);
});

test("accepting and correcting together follow the target, holes and disjoint laws included", () => {
  const laws = [[0.5, 0.3, 0.2], [0, 0.9, 0.1], [0, 0, 1]].map((law) => Float32Array.from(law));
  const random = uniforms(99);
  for (const target of laws) {
    for (const law of laws) {
      const counts = [0, 0, 0];
      for (let i = 0; i < 20_000; i++) {
        const draft = { token: drawFrom(law, random()), law };
        counts[verifyByRejection([target, target], [draft], [[random(), random()], [random(), random()]]).tokens[0]]++;
      }
      const statistic = counts.reduce((sum, count, v) => (
        target[v] === 0 ? sum + count : sum + (count - 20_000 * target[v]) ** 2 / (20_000 * target[v])
      ), 0);
      // 99.99 % of the chi-square distribution with 2 degrees of freedom lies under 18.4.
      assert.ok(statistic < 18.4, `${counts}`);
    }
  }
});

test("whole sequences follow the joint law with any window", () => {
  for (const window of [1, 2, 3, 5]) assert.ok(Math.abs(deviation(window, verifyByRejection)) < 4, `window ${window}`);
});

test("the same statistic catches a kept draft that keeps its old law", () => {
  const forgetful: Verify = (laws, drafts, random) => {
    const verified = verifyByRejection(laws, drafts, random);
    const offset = verified.tokens.length;
    return { ...verified, drafts: verified.drafts.map((draft, i) => ({ ...draft, law: drafts[offset + i]?.law ?? draft.law! })) };
  };
  assert.ok(deviation(3, forgetful) > 4);
});

test("the same statistic catches drafts that are kept for being likely", () => {
  const confident: Verify = (laws, drafts, random) => {
    const verified = verifyByRejection(laws, drafts, random);
    const offset = verified.tokens.length;
    return { ...verified, drafts: verified.drafts.map((draft, i) => {
      const old = drafts[offset + i];
      return old !== undefined && laws[offset + i][old.token] > 0.2 ? { token: old.token, law: laws[offset + i] } : draft;
    }) };
  };
  assert.ok(deviation(3, confident) > 4);
});

test("the same statistic catches the most likely token taken for a draw", () => {
  const greedy: Verify = (laws, drafts, random) => {
    const verified = verifyByRejection(laws, drafts, random);
    return { ...verified, drafts: verified.drafts.map(({ law }) => ({ token: law!.indexOf(Math.max(...law!)), law: law! })) };
  };
  assert.ok(deviation(3, greedy) > 4);
});
