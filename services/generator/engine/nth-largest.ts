const BUCKETS = 2048;
const counts = new Uint32Array(BUCKETS);
const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** An integer in the order of the floats: the sign bit turned for positive numbers, every bit for negative ones. */
function orderOf(value: number): number {
  float[0] = value;
  const word = bits[0];
  return word & 0x80000000 ? ~word >>> 0 : (word | 0x80000000) >>> 0;
}

/**
 * The n-th largest of `values`, 1 being the largest: a radix selection, so a few passes instead of a sort.
 * @param values no NaN.
 * @param n 1 .. values.length.
 */
export function nthLargest(values: Float32Array, n: number): number {
  let candidates = values;
  let rank = n;
  for (const shift of [21, 10]) {
    counts.fill(0);
    for (let i = 0; i < candidates.length; i++) counts[(orderOf(candidates[i]) >>> shift) & (BUCKETS - 1)]++;
    let bucket = BUCKETS - 1;
    for (; counts[bucket] < rank; bucket--) rank -= counts[bucket];
    candidates = candidates.filter((value) => ((orderOf(value) >>> shift) & (BUCKETS - 1)) === bucket);
    if (candidates.length === 1) return candidates[0];
  }
  return candidates.sort()[candidates.length - rank];
}
