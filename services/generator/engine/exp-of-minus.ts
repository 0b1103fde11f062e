/** Table steps in one unit. */
const STEPS = 64;

/** Beyond this the exponential is left out: 64,000 such terms are less than 1e-9 of the largest. */
const DEEPEST = 32;

const TABLE = Float64Array.from({ length: STEPS * DEEPEST }, (_, i) => Math.exp(-i / STEPS));

/**
 * `e^-x` for x >= 0, with a relative error below 1e-6, that of a float32 logit; 0 from 32 on. A table is
 * faster than `Math.exp`, and a filter needs one for many tokens of the codebook.
 */
export function expOfMinus(x: number): number {
  const index = (x * STEPS) | 0;
  if (x >= DEEPEST) return 0;
  const rest = x - index / STEPS;
  return TABLE[index] * (1 - rest * (1 - rest * 0.5));
}
