import { readFile } from "node:fs/promises";
import { openBundle } from "#libs/bundle/bundle.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { guide } from "#services/generator/engine/guidance.js";
import { KvCache } from "#services/generator/engine/kv-cache.js";
import { layoutOf, OnnxModel } from "#services/generator/engine/onnx-model.js";
import { argMax, sample } from "#services/generator/engine/sampler.js";
import { TextTokenizer, type TokenizerFile } from "#services/tokenizer/text-tokenizer.js";
import { rounded, table } from "./table.js";
import type { BenchOptions } from "./where-time-goes.js";

const PROMPTS = ["a dog", "a red apple", "three blue fish on a yellow background", "a key to the left of a crown"];

/** One model with the guided pair of one image: rows are fed the same tokens whatever they would have drawn. */
class ForcedPair {
  readonly model: OnnxModel;
  readonly #cache: KvCache;

  constructor(model: OnnxModel, longestPrompt: number) {
    this.model = model;
    this.#cache = new KvCache(model.layout, 2, longestPrompt + model.layout.imageTokenCount);
  }

  /** `[2, V]` logits after both prompts. */
  async prefill(prompts: readonly (readonly number[])[]): Promise<Float32Array> {
    const rows = [];
    for (const [firstRow, prompt] of prompts.entries()) {
      const ids = BigInt64Array.from(prompt, BigInt);
      rows.push((await this.model.forward({ cache: this.#cache, firstRow, rows: 1, ids })).slice());
    }
    return Float32Array.from(rows.flatMap((row) => [...row]));
  }

  /** `[2, V]` logits after one more image token. */
  async step(token: number): Promise<Float32Array> {
    const ids = new BigInt64Array(2).fill(BigInt(this.model.layout.tokenOffset + token));
    return (await this.model.forward({ cache: this.#cache, firstRow: 0, rows: 2, ids })).slice();
  }
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

/** KL divergence in nats from the law of `reference` to that of `other`. */
function divergence(reference: Float32Array, other: Float32Array): number {
  const [p, q] = [logSoftmax(reference), logSoftmax(other)];
  return p.reduce((sum, logP, v) => sum + Math.exp(logP) * (logP - q[v]), 0);
}

/** Sums over all positions of all images. */
interface Distance {
  positions: number;
  maxLogitError: number;
  meanLogitError: number;
  meanDivergence: number;
  sameArgMax: number;
  sameDraw: number;
}

async function compareImage(
  pairs: readonly [reference: ForcedPair, other: ForcedPair], prompts: readonly (readonly number[])[], seed: bigint,
  guidanceScale: number, distance: Distance,
): Promise<void> {
  let [reference, other] = await Promise.all(pairs.map((pair) => pair.prefill(prompts)));
  const { imageTokenCount } = pairs[0].model.layout;
  for (let position = 0; position < imageTokenCount; position++) {
    const errors = reference.map((logit, v) => Math.abs(logit - other[v]));
    distance.maxLogitError = Math.max(distance.maxLogitError, errors.reduce((a, b) => Math.max(a, b), 0));
    distance.meanLogitError += errors.reduce((a, b) => a + b, 0) / errors.length;
    const [guidedReference, guidedOther] = [guide(reference, guidanceScale), guide(other, guidanceScale)];
    const address = { seed, imageIndex: 0, position };
    const token = sample(guidedReference, address);
    distance.positions++;
    distance.meanDivergence += divergence(guidedReference, guidedOther);
    distance.sameArgMax += Number(argMax(guidedReference) === argMax(guidedOther));
    distance.sameDraw += Number(token === sample(guidedOther, address));
    [reference, other] = await Promise.all(pairs.map((pair) => pair.step(token)));
  }
}

/** How far one bundle's weights are from another's (fp32, say): logits, guided law, and the tokens drawn, position by position. */
export async function weights({ bundle, against, rounds }: BenchOptions): Promise<void> {
  if (against === undefined) throw invalidRequest("--against", "the folder of the bundle to compare with");
  const bundles = await Promise.all([against, bundle].map((folder) => openBundle(folder)));
  const models = await Promise.all(bundles.map(({ manifest, path }) =>
    OnnxModel.open(path(manifest.transformer.file), layoutOf(manifest), {})));
  const { text, defaults } = bundles[0].manifest;
  const file = JSON.parse(await readFile(bundles[0].path("tokenizer.json"), "utf8")) as TokenizerFile;
  const tokenizer = new TextTokenizer(file, text);
  const distance: Distance = {
    positions: 0, maxLogitError: 0, meanLogitError: 0, meanDivergence: 0, sameArgMax: 0, sameDraw: 0,
  };
  for (let round = 0; round < rounds; round++) {
    const prompts = [tokenizer.encodePrompt(PROMPTS[round % PROMPTS.length]), tokenizer.encodeNegativePrompt(undefined)];
    const pair = (model: OnnxModel) => new ForcedPair(model, Math.max(...prompts.map((prompt) => prompt.length)));
    await compareImage([pair(models[0]), pair(models[1])], prompts, BigInt(round), defaults.guidanceScale, distance);
  }
  await Promise.all(models.map((model) => model.release()));
  const { positions, maxLogitError } = distance;
  const mean = (sum: number) => sum / positions;
  const result = {
    meanLogitError: mean(distance.meanLogitError), maxLogitError, meanDivergenceNats: mean(distance.meanDivergence),
    sameArgMax: mean(distance.sameArgMax), sameDraw: mean(distance.sameDraw),
  };
  const names = bundles.map(({ manifest }) => `${manifest.name} (${manifest.transformer.weights})`);
  process.stdout.write(`${names[1]} against ${names[0]}, ${positions} positions at guidance ${defaults.guidanceScale}\n\n`);
  process.stdout.write(table([["", "value"], ...Object.entries(result).map(([name, value]) => [name, value.toPrecision(3)])]));
  process.stdout.write(`${JSON.stringify(rounded({ bench: "weights", bundles: names, positions, ...result }))}\n`);
}
