import type { SamplingSettings } from "./sequence.js";

/** Keep the `k` largest logits, and all that tie with the smallest of them; the rest become -Infinity. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k === 0 || k >= logits.length) return;
  const threshold = logits.slice().sort()[logits.length - k]!;
  for (let v = 0; v < logits.length; v++) if (logits[v]! < threshold) logits[v] = -Infinity;
}

/**
 * Keep the smallest set of most likely tokens whose probabilities sum to at least `p`; the rest become -Infinity. Of
 * tokens that tie at the edge the smallest ids stay.
 */
export function keepTopP(logits: Float32Array, p: number): void {
  if (p >= 1) return;
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  const ascending = weights.slice().sort();
  const enough = p * ascending.reduce((a, b) => a + b, 0);
  let edge = ascending.length;
  for (let sum = 0; edge > 0 && sum < enough; ) sum += ascending[--edge]!;
  const smallest = ascending[edge]!;
  let ties = ascending.subarray(edge).filter((weight) => weight === smallest).length;
  for (let v = 0; v < logits.length; v++) {
    const isKept = weights[v]! > smallest || (weights[v] === smallest && ties-- > 0);
    if (!isKept) logits[v] = -Infinity;
  }
}

/**
 * Apply temperature, top-k and top-p, in this order (that of Hugging Face transformers), in place.
 * @param logits `[V]` after guidance.
 */
export function processLogits(logits: Float32Array, { temperature, topK, topP }: SamplingSettings): void {
  if (temperature === 0) return;
  for (let v = 0; v < logits.length; v++) logits[v]! /= temperature;
  keepTopK(logits, topK);
  keepTopP(logits, topP);
}
