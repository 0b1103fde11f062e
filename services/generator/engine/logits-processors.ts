import { expOfMinus } from "./exp-of-minus.js";
import type { SamplingSettings } from "./generation.js";
import type { Law } from "./law.js";
import { nthLargest } from "./nth-largest.js";

/**
 * How far below the largest logit tokens are looked at one by one. All tokens beyond have little weight together, so that
 * it seldom matters how much exactly.
 */
const REACH = 12;

/** How far below the largest logit the nucleus is looked for first; few tokens are so likely. */
const NUCLEUS_DEPTH = 4;

/** Leave the most likely token alone; the smallest id on a tie. */
export function keepLargest({ codebookSize, tokens, logits }: Law): Law {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[best]) best = i;
  return { codebookSize, tokens: Uint32Array.of(tokens?.[best] ?? best), logits: Float32Array.of(logits[best]) };
}

/** Keep the `k` largest logits, and all that tie with the smallest of them. 0 keeps all. */
export function keepTopK(law: Law, k: number): Law {
  if (k === 0 || k >= law.logits.length) return law;
  return atLeast(law, nthLargest(law.logits, k));
}

/**
 * Keep the smallest set of most likely tokens whose probabilities sum to at least `p`. Of tokens that tie at the edge the
 * smallest ids stay.
 */
export function keepTopP(law: Law, p: number): Law {
  if (p >= 1) return law;
  const largest = largestOf(law.logits);
  const near = atLeast(law, largest - REACH);
  const nearTotal = totalOf(near.logits, largest);
  const farTotal = (law.logits.length - near.logits.length) * Math.exp(-REACH);
  const quick = nucleusOf(atLeast(near, largest - NUCLEUS_DEPTH), largest, p * nearTotal);
  // What is far weighs between nothing and `farTotal`; a nucleus that suffices for both is the one.
  if (quick !== undefined && quick.weight >= p * (nearTotal + farTotal)) return quick.law;
  return nucleusOf(law, largest, p * totalOf(law.logits, largest))?.law ?? law;
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

/** The fewest most likely tokens of a law that weigh `enough`; undefined if all of them do not. */
function nucleusOf(
  law: Law, largest: number, enough: number,
): { readonly law: Law; readonly weight: number } | undefined {
  const ascending = law.logits.slice().sort();
  let weight = 0;
  let edge = ascending.length;
  while (edge > 0 && weight < enough) weight += expOfMinus(largest - ascending[--edge]);
  if (weight < enough) return undefined;
  const smallest = ascending[edge];
  let last = edge;
  while (ascending[last + 1] === smallest) last++;
  return { law: withoutTies(atLeast(law, smallest), smallest, last - edge + 1), weight };
}

/** A law with only the first `count` of the tokens whose logit is `tied`. */
function withoutTies(law: Law, tied: number, count: number): Law {
  const { codebookSize, tokens = Uint32Array.of(), logits } = law;
  let ties = 0;
  const left = [...logits.keys()].filter((i) => logits[i] !== tied || ties++ < count);
  if (left.length === logits.length) return law;
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
