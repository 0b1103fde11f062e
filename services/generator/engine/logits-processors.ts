import type { SamplingSettings } from "./sequence.js";

/** Keep the `k` largest logits, and all that tie with the smallest of them; the rest become -Infinity. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k === 0 || k >= logits.length) return;
  const threshold = logits.slice().sort()[logits.length - k]!;
  for (let v = 0; v < logits.length; v++) if (logits[v]! < threshold) logits[v] = -Infinity;
}

/** Keep the smallest set of most likely tokens whose probabilities sum to at least `p`; the rest become -Infinity. */
export function keepTopP(logits: Float32Array, p: number): void {
  if (p >= 1) return;
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
  const weights = order.map((v) => Math.exp(logits[v]! - largest));
  const enough = p * weights.reduce((a, b) => a + b, 0);
  let sum = 0;
  let kept = 0;
  while (kept < order.length && (kept === 0 || sum < enough)) sum += weights[kept++]!;
  for (const v of order.slice(kept)) logits[v] = -Infinity;
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
