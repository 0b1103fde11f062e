/** Which tokens a filter keeps: all whose logit is larger than the edge, and some or all of those that tie with it. */
export interface Edge {
  readonly logit: number;
  /** Tokens of exactly this logit that it takes to reach what was asked for, the least number. */
  readonly ties: number;
  /** What is kept weighs so much. */
  readonly weight: number;
}

const BUCKETS = 2048;
const sums = new Float64Array(BUCKETS);

/** From so few candidates on, sorting is faster. */
const FEW = 64;

/** The bits of a float as an unsigned number in the order of the floats. */
function orderOf(bits: number): number {
  return bits ^ ((bits >> 31) | 0x80000000);
}

/**
 * The smallest of the largest logits that together weigh `enough`: a radix selection over the floats' bits, so a few passes
 * instead of a sort. If all of them weigh less, all are kept.
 * @param logits `[N]`, no NaN. @param weigh what a token of such a logit weighs, >= 0.
 */
export function edgeOf(logits: Float32Array, enough: number, weigh: (logit: number) => number): Edge {
  let candidates = logits;
  let above = 0;
  for (let shift = 21; shift >= 10 && candidates.length > FEW; shift -= 11) {
    const bits = new Int32Array(candidates.buffer, candidates.byteOffset, candidates.length);
    sums.fill(0);
    for (let i = 0; i < bits.length; i++) sums[(orderOf(bits[i]) >>> shift) & (BUCKETS - 1)] += weigh(candidates[i]);
    let bucket = BUCKETS - 1;
    while (bucket > 0 && above + sums[bucket] < enough) above += sums[bucket--];
    candidates = bucketOf(candidates, bits, shift, bucket);
  }
  const ascending = candidates === logits ? candidates.slice().sort() : candidates.sort();
  let edge = ascending.length;
  let weight = above;
  while (edge > 0 && weight < enough) weight += weigh(ascending[--edge]);
  if (edge === ascending.length || weight < enough) return { logit: -Infinity, ties: logits.length, weight };
  let last = edge;
  while (ascending[last + 1] === ascending[edge]) last++;
  return { logit: ascending[edge], ties: last - edge + 1, weight };
}

function bucketOf(values: Float32Array, bits: Int32Array, shift: number, bucket: number): Float32Array {
  let count = 0;
  const kept = new Float32Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    if (((orderOf(bits[i]) >>> shift) & (BUCKETS - 1)) === bucket) kept[count++] = values[i];
  }
  return kept.slice(0, count);
}
