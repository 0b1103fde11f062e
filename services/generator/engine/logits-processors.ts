import type { SamplingSettings } from "./generation.js";
import { nthLargest } from "./nth-largest.js";

/** How far below the largest logit the search for the nucleus looks first, and then; few tokens are so likely. */
const NUCLEUS_DEPTHS = [4, 9, Infinity];

/** Keep the `k` largest logits, and all that tie with the smallest of them; the rest become -Infinity. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k === 0 || k >= logits.length) return;
  const threshold = nthLargest(logits, k);
  for (let v = 0; v < logits.length; v++) if (logits[v]! < threshold) logits[v] = -Infinity;
}

/**
 * Keep the smallest set of most likely tokens whose probabilities sum to at least `p`; the rest become -Infinity. Of
 * tokens that tie at the edge the smallest ids stay.
 */
export function keepTopP(logits: Float32Array, p: number): void {
  if (p >= 1) return;
  let largest = -Infinity;
  for (let v = 0; v < logits.length; v++) if (logits[v]! > largest) largest = logits[v]!;
  let total = 0;
  for (let v = 0; v < logits.length; v++) total += Math.exp(logits[v]! - largest);
  const edge = nucleusEdge(logits, largest, p * total);
  let { ties } = edge;
  for (let v = 0; v < logits.length; v++) {
    const isKept = logits[v]! > edge.logit || (logits[v] === edge.logit && ties-- > 0);
    if (!isKept) logits[v] = -Infinity;
  }
}

/** The smallest logit of the nucleus, and how many tokens of that very logit belong to it. */
function nucleusEdge(
  logits: Float32Array, largest: number, enough: number,
): { readonly logit: number; readonly ties: number } {
  for (const depth of NUCLEUS_DEPTHS) {
    const likely = atLeast(logits, largest - depth).sort();
    let sum = 0;
    let edge = likely.length;
    while (edge > 0 && sum < enough) sum += Math.exp(likely[--edge]! - largest);
    if (sum < enough && depth !== Infinity) continue;
    const logit = likely[edge]!;
    let ties = 0;
    for (let i = edge; likely[i] === logit; i++) ties++;
    return { logit, ties };
  }
  throw new RangeError("unreachable: the last depth takes every token");
}

/** The logits that reach a threshold, as an array of their own. */
function atLeast(logits: Float32Array, threshold: number): Float32Array {
  const kept = new Float32Array(logits.length);
  let count = 0;
  for (let v = 0; v < logits.length; v++) if (logits[v]! >= threshold) kept[count++] = logits[v]!;
  return kept.subarray(0, count);
}

/**
 * Apply temperature, top-k and top-p, in this order (that of Hugging Face transformers), in place.
 * @param logits `[V]` after guidance.
 */
export function processLogits(logits: Float32Array, { temperature, topK, topP }: SamplingSettings): void {
  if (temperature === 0) return;
  if (temperature !== 1) for (let v = 0; v < logits.length; v++) logits[v]! /= temperature;
  keepTopK(logits, topK);
  keepTopP(logits, topP);
}
