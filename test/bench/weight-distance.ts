import type { TransformerRunner } from "#libs/onnx/transformer-runner.js";

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
  /** Part of the draws that can be the same: 1 less the total variation distance of the guided laws, mean over positions. */
  readonly sameDraws: number;
}

/** What is run: `count` image tokens after each pair of prompts. */
export interface ForcedImages {
  readonly prompts: readonly Prompts[];
  readonly count: number;
  readonly tokenOffset: number;
  readonly guidanceScale: number;
}

/** Multiples of it spread evenly over 0 .. 1, without chance. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/** `[V]` each. */
type PairLogits = readonly [conditional: Float32Array, unconditional: Float32Array];

/**
 * Run two models over the same images: the tokens are those that the reference draws, and both are fed them, so that every
 * position compares the two on equal terms.
 */
export async function weightDistance(
  reference: TransformerRunner, other: TransformerRunner, images: ForcedImages,
): Promise<WeightDistance> {
  const sums = { positions: 0, meanLogitError: 0, divergenceNats: 0, sameArgMax: 0, sameDraws: 0 };
  let maxLogitError = 0;
  for (const [image, prompts] of images.prompts.entries()) {
    let [expected, actual] = [await prefill(reference, prompts, images.count), await prefill(other, prompts, images.count)];
    for (let position = 0; position < images.count; position++) {
      const errors = [0, 1].map((row) => logitErrors(expected[row], actual[row]));
      maxLogitError = Math.max(maxLogitError, ...errors.map(({ largest }) => largest));
      const [law, otherLaw] = [expected, actual].map((pair) => guidedLaw(pair, images.guidanceScale));
      sums.positions++;
      sums.meanLogitError += (errors[0].mean + errors[1].mean) / 2;
      sums.divergenceNats += divergence(law, otherLaw);
      sums.sameArgMax += Number(largestAt(law) === largestAt(otherLaw));
      sums.sameDraws += law.reduce((sum, p, v) => sum + Math.min(p, otherLaw[v]), 0);
      const token = quantile(law, ((image * images.count + position + 1) * GOLDEN_RATIO) % 1);
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

/** Probabilities of the next token. */
function guidedLaw([conditional, unconditional]: PairLogits, guidanceScale: number): Float64Array {
  const guided = Float64Array.from(conditional, (logit, v) => unconditional[v] + guidanceScale * (logit - unconditional[v]));
  const largest = guided.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = guided.map((logit) => Math.exp(logit - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

function divergence(reference: Float64Array, other: Float64Array): number {
  return reference.reduce((sum, p, v) => sum + (p === 0 ? 0 : p * Math.log(p / Math.max(other[v], Number.MIN_VALUE))), 0);
}

function largestAt(law: Float64Array): number {
  return law.reduce((best, p, v) => (p > law[best] ? v : best), 0);
}

/** The token at which the sum of probabilities passes `level`. */
function quantile(law: Float64Array, level: number): number {
  let sum = 0;
  const token = law.findIndex((p) => (sum += p) > level);
  return token < 0 ? largestAt(law) : token;
}
