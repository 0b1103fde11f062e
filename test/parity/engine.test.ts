import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import type { AppError } from "#libs/errors/errors.js";
import { Engine } from "#services/generator/engine/engine.js";
import type { GenerationRequest } from "#services/generator/engine/generation.js";
import { GumbelNoise } from "#services/generator/engine/gumbel-noise.js";
import { KvCache } from "#services/generator/engine/kv-cache.js";
import { isAllowed } from "#services/generator/engine/law.js";
import { LawKernel } from "#services/generator/engine/law-kernel.js";
import { layoutOf, OnnxModel } from "#services/generator/engine/onnx-model.js";
import { ThreadEngine } from "#services/generator/engine/thread-engine.js";
import { dice } from "#test/doubles/dice.js";
import { REQUEST, runToIdle, submit, type Heard } from "#test/doubles/engine-run.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

// The fake model of the unit tests is exact. A real one adds its numbers in another order when it has other rows beside
// it, so two tokens that are as good as equal may change places: that is the only excuse, and it is measured.
const LARGEST_TIE = 1e-4;
const SCHEDULES = 40;
const WINDOWS = [1, 2, 4, 16, "auto"] as const;

let model: OnnxModel;

before(async () => {
  const { manifest, path } = await openTokenBundle(await tinyBundle());
  model = await OnnxModel.open(path(manifest.transformer.file), layoutOf(manifest), { threads: 1 });
});
after(() => model.release());

function newEngine(maxRows: number): Engine {
  return new Engine(model, { maxRows, maxRowPositions: model.layout.maxPositions, maxWaiting: 100 });
}

test("places that fill a window up may lie beyond the last position that the graph knows", async () => {
  const { maxPositions, tokenOffset } = model.layout;
  const known = BigInt64Array.from({ length: maxPositions - 1 }, (_, i) => BigInt(tokenOffset + (i % 8)));
  const pass = async (count: number): Promise<Float32Array> => {
    const cache = new KvCache(model.layout, 1, maxPositions);
    cache.reserve(maxPositions);
    const prefilled = await model.forward({ cache, firstRow: 0, rows: 1, ids: known, logitsFrom: 0 });
    cache.append(0, { ...prefilled, rows: 1, count: known.length }, 0, known.length);
    const ids = new BigInt64Array(count).fill(BigInt(tokenOffset));
    return (await model.forward({ cache, firstRow: 0, rows: 1, ids, logitsFrom: 0 })).logits.slice(0, model.layout.codebookSize);
  };
  const [alone, filled] = [await pass(1), await pass(5)];
  assert.ok(alone.every((logit, i) => Math.abs(logit - filled[i]) < LARGEST_TIE));
});

test("a refusal reaches its caller even when the engine rests right after it", async (t) => {
  const { manifest, path } = await openTokenBundle(await tinyBundle());
  const limits = { maxRows: 2, maxRowPositions: model.layout.maxPositions, maxWaiting: 100 };
  const engine = await ThreadEngine.open({ graphFile: path(manifest.transformer.file), manifest, session: { threads: 1 }, limits });
  t.after(() => engine.close());
  const { signal } = new AbortController();
  const request = { ...REQUEST, speculation: { draftWindow: 1, verification: "coupled" } } as const;
  const drain = async (change: Partial<GenerationRequest>): Promise<unknown> => {
    try {
      for await (const _ of engine.generate({ ...request, ...change }, { signal }));
      return undefined;
    } catch (error) {
      return (error as AppError).kind;
    }
  };
  for (let trial = 0; trial < 20; trial++) {
    let isOver = false;
    const image = drain({}).finally(() => (isOver = true));
    const refusals: Promise<unknown>[] = [];
    while (!isOver) {
      refusals.push(drain({ deadline: 0 }));
      await setImmediate();
    }
    assert.equal(await image, undefined);
    // Nothing more is sent that would wake the engine.
    const kinds = await Promise.race([Promise.all(refusals), once(AbortSignal.timeout(10_000), "abort")]);
    assert.ok(kinds.every((kind) => kind === "deadline-exceeded"), `trial ${trial}: a refusal is stuck`);
  }
});

/** Logits behind the last of `ids`, computed in one pass. */
async function logitsBehind(ids: readonly number[]): Promise<Float32Array> {
  const cache = new KvCache(model.layout, 1, ids.length);
  const pass = { cache, firstRow: 0, rows: 1, ids: BigInt64Array.from(ids, BigInt), logitsFrom: ids.length - 1 };
  return (await model.forward(pass)).logits;
}

/** How far the best token's score lies above the second best's, after these tokens. */
async function gapAfter(request: Partial<GenerationRequest>, tokens: readonly number[]): Promise<number> {
  const known = tokens.map((token) => model.layout.tokenOffset + token);
  const prompts = [request.promptTokens!, ...(request.guidanceScale === 1 ? [] : [request.negativePromptTokens!])];
  const rows: Float32Array[] = [];
  for (const prompt of prompts) rows.push(await logitsBehind([...prompt, ...known]));
  const { guidanceScale = 1, temperature = 1, topK = 0, topP = 1, repetitionPenalty = 1, seed = 0n } = request;
  const law = new LawKernel(rows[0].length).law(rows, { guidanceScale, temperature, topK, topP, repetitionPenalty }, tokens);
  const noise = new GumbelNoise(law.logits.length, { seed, imageIndex: 0, position: tokens.length });
  const scores = [...law.logits.keys()].filter((token) => isAllowed(law, token))
    .map((token) => law.logits[token] + noise.of(token)).sort((a, b) => b - a);
  return scores[0] - scores[1];
}

/** Fails unless the tokens are equal, or differ from where two of them were as good as equal. */
async function assertSame(request: Partial<GenerationRequest>, tokens: readonly number[], expected: readonly number[]): Promise<void> {
  const at = expected.findIndex((token, i) => token !== tokens[i]);
  if (at < 0) return assert.equal(tokens.length, expected.length);
  const gap = await gapAfter(request, expected.slice(0, at));
  assert.ok(gap < LARGEST_TIE, `token ${at} differs, and the best was ahead by ${gap}`);
}

function randomRequest(throwDice: (limit: number) => number): Partial<GenerationRequest> {
  return {
    promptTokens: Array.from({ length: 2 + throwDice(12) }, () => throwDice(200)),
    negativePromptTokens: [1, 2], guidanceScale: [1, 1.5, 4][throwDice(3)], seed: BigInt(throwDice(1000)),
    topP: [1, 0.8][throwDice(2)], repetitionPenalty: [1, 1.3][throwDice(2)], priority: (["low", "normal", "high"] as const)[throwDice(3)],
  };
}

test("a real model's tokens are the same alone, batched, staggered, preempted and speculative", async () => {
  for (let schedule = 0; schedule < SCHEDULES; schedule++) {
    const throwDice = dice(schedule);
    const engine = newEngine(2 + throwDice(9));
    const requests = Array.from({ length: 1 + throwDice(6) }, () => randomRequest(throwDice));
    const heard: Heard[] = [];
    for (const request of requests) {
      const draftWindow = WINDOWS[throwDice(WINDOWS.length)];
      heard.push(submit(engine, { ...request, speculation: { draftWindow, verification: "coupled" } }));
      for (let steps = throwDice(8); steps > 0; steps--) await engine.step();
    }
    await runToIdle(engine);
    for (const [i, request] of requests.entries()) {
      const calm = newEngine(2);
      const alone = submit(calm, request);
      await runToIdle(calm);
      await assertSame(request, heard[i].tokens(), alone.tokens());
    }
  }
});

test("the measure tells a tie from a clear winner", async () => {
  const request = { promptTokens: [3, 4, 5], negativePromptTokens: [1, 2], guidanceScale: 1.5, seed: 1n };
  const gap = await gapAfter(request, []);
  assert.ok(gap > LARGEST_TIE, `${gap}`);
  const engine = newEngine(2);
  const heard = submit(engine, request);
  await runToIdle(engine);
  const [first, ...rest] = heard.tokens();
  await assert.rejects(assertSame(request, [first + 1, ...rest], heard.tokens()), /token 0 differs/);
});
