import type { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { guide } from "#services/generator/engine/guidance.js";
import { argMax, sample } from "#services/generator/engine/sampler.js";

/** Conditional and unconditional, of one image. */
export type Prompts = readonly [readonly number[], readonly number[]];

/** How far one model is from another, over all positions of some images. */
export interface WeightDistance {
  readonly positions: number;
  readonly maxLogitError: number;
  readonly meanLogitError: number;
  /** KL divergence in nats from the guided law of the reference to that of the other, mean over positions. */
  readonly divergenceNats: number;
  /** Part of the positions at which both find the same token most likely. */
  readonly sameArgMax: number;
  /** Part of the positions at which both draw the same token from the same noise. */
  readonly sameDraw: number;
}

/** What is run: `count` image tokens after each pair of prompts. */
export interface ForcedImages {
  readonly prompts: readonly Prompts[];
  readonly count: number;
  readonly tokenOffset: number;
  readonly guidanceScale: number;
}

/** `[V]` each. */
type PairLogits = readonly [conditional: Float32Array, unconditional: Float32Array];

/**
 * Run two models over the same images: the tokens are those that the reference draws, and both are fed them, so that every
 * position compares the two on equal terms.
 */
export async function weightDistance(
  reference: TransformerRunner, other: TransformerRunner, images: ForcedImages,
): Promise<WeightDistance> {
  const sums = { positions: 0, meanLogitError: 0, divergenceNats: 0, sameArgMax: 0, sameDraw: 0 };
  let maxLogitError = 0;
  for (const [image, prompts] of images.prompts.entries()) {
    let [expected, actual] = [await prefill(reference, prompts, images.count), await prefill(other, prompts, images.count)];
    for (let position = 0; position < images.count; position++) {
      const errors = [0, 1].map((row) => logitErrors(expected[row], actual[row]));
      maxLogitError = Math.max(maxLogitError, ...errors.map(({ largest }) => largest));
      guide(expected[0], expected[1], images.guidanceScale);
      guide(actual[0], actual[1], images.guidanceScale);
      const address = { seed: BigInt(image), imageIndex: 0, position };
      const token = sample(expected[0], address);
      sums.positions++;
      sums.meanLogitError += (errors[0].mean + errors[1].mean) / 2;
      sums.divergenceNats += divergence(expected[0], actual[0]);
      sums.sameArgMax += Number(argMax(expected[0]) === argMax(actual[0]));
      sums.sameDraw += Number(token === sample(actual[0], address));
      const id = images.tokenOffset + token;
      [expected, actual] = [await step(reference, id), await step(other, id)];
    }
  }
  const { positions } = sums;
  const means = Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / positions])) as typeof sums;
  return { ...means, positions, maxLogitError };
}

async function prefill(runner: TransformerRunner, prompts: Prompts, count: number): Promise<PairLogits> {
  runner.reset(2, Math.max(...prompts.map((prompt) => prompt.length)) + count);
  const rows = [];
  for (const [firstRow, ids] of prompts.entries()) {
    rows.push(await runner.run({ firstRow, ids: [ids], logitsFrom: ids.length - 1 }));
  }
  return [rows[0], rows[1]];
}

async function step(runner: TransformerRunner, id: number): Promise<PairLogits> {
  const logits = await runner.run({ ids: [[id], [id]] });
  return [logits.subarray(0, logits.length / 2), logits.subarray(logits.length / 2)];
}

function logitErrors(expected: Float32Array, actual: Float32Array): { readonly largest: number; readonly mean: number } {
  let [largest, sum] = [0, 0];
  for (let v = 0; v < expected.length; v++) {
    const error = Math.abs(expected[v] - actual[v]);
    largest = Math.max(largest, error);
    sum += error;
  }
  return { largest, mean: sum / expected.length };
}

function divergence(reference: Float32Array, other: Float32Array): number {
  const [p, q] = [logSoftmax(reference), logSoftmax(other)];
  return p.reduce((sum, logP, v) => sum + Math.exp(logP) * (logP - q[v]), 0);
}

function logSoftmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, logit) => total + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}
