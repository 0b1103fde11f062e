import { type Edge, edgeOf } from "./edge.js";
import { expOfMinus } from "./exp-of-minus.js";
import type { SamplingSettings } from "./generation.js";
import type { Law } from "./law.js";

/**
 * How far below the largest logit tokens are looked at one by one. All tokens beyond have little weight together, so that
 * it seldom matters how much exactly.
 */
const REACH = 12;

/** Leave the most likely token alone; the smallest id on a tie. */
export function keepLargest({ codebookSize, tokens, logits }: Law): Law {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return { codebookSize, tokens: Uint32Array.of(tokens?.[best] ?? best), logits: Float32Array.of(logits[best]) };
}

/** Keep the `k` largest logits, and all that tie with the smallest of them. 0 keeps all. */
export function keepTopK(law: Law, k: number): Law {
  if (k === 0 || k >= law.logits.length) return law;
  return atLeast(law, edgeOf(law.logits, k, () => 1).logit);
}

/**
 * Keep the smallest set of most likely tokens whose probabilities sum to at least `p`. Of tokens that tie at the edge the
 * smallest ids stay.
 */
export function keepTopP(law: Law, p: number): Law {
  if (p >= 1) return law;
  const largest = largestOf(law.logits);
  const weigh = (logit: number) => expOfMinus(largest - logit);
  const near = atLeast(law, largest - REACH);
  const nearTotal = totalOf(near.logits, largest);
  const farTotal = (law.logits.length - near.logits.length) * Math.exp(-REACH);
  const edge = edgeOf(near.logits, p * nearTotal, weigh);
  // What is far weighs between nothing and `farTotal`; a set that suffices for both is the one.
  if (edge.weight >= p * (nearTotal + farTotal)) return upTo(near, edge);
  return upTo(law, edgeOf(law.logits, p * totalOf(law.logits, largest), weigh));
}

function largestOf(logits: Float32Array): number {
  let largest = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i] > largest) largest = logits[i];
  return largest;
}

/** Weights are relative to that of the largest logit. */
function totalOf(logits: Float32Array, largest: number): number {
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += expOfMinus(largest - logits[i]);
  return total;
}

/** The tokens above an edge, and the first of those on it. */
function upTo(law: Law, { logit, ties }: Edge): Law {
  const { codebookSize, tokens = Uint32Array.of(), logits } = atLeast(law, logit);
  let rest = ties;
  const left = [...logits.keys()].filter((i) => logits[i] !== logit || rest-- > 0);
  if (left.length === logits.length) return { codebookSize, tokens, logits };
  return { codebookSize, tokens: Uint32Array.from(left, (i) => tokens[i]), logits: Float32Array.from(left, (i) => logits[i]) };
}

/** Indices of what is kept, only while `atLeast` runs. */
let kept = new Uint32Array();

function atLeast({ codebookSize, tokens, logits }: Law, threshold: number): Law {
  if (kept.length < logits.length) kept = new Uint32Array(logits.length);
  let count = 0;
  for (let i = 0; i < logits.length; i++) if (logits[i] >= threshold) kept[count++] = i;
  const keptTokens = kept.slice(0, count);
  const keptLogits = new Float32Array(count);
  for (let i = 0; i < count; i++) keptLogits[i] = logits[kept[i]];
  if (tokens !== undefined) for (let i = 0; i < count; i++) keptTokens[i] = tokens[kept[i]];
  return { codebookSize, tokens: keptTokens, logits: keptLogits };
}

/**
 * The law of the next token: temperature, top-k and top-p, in this order (that of Hugging Face transformers).
 * @param logits `[V]` after guidance; may be overwritten, and belong to the law from then on.
 */
export function processLogits(logits: Float32Array, { temperature, topK, topP }: SamplingSettings): Law {
  const law: Law = { codebookSize: logits.length, logits };
  if (temperature === 0) return keepLargest(law);
  if (temperature !== 1) for (let v = 0; v < logits.length; v++) logits[v] /= temperature;
  return keepTopP(keepTopK(law, topK), topP);
}
