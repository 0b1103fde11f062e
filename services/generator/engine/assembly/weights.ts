// How much tokens weigh beside the most likely one: e^-x of how far a logit is below, one at a time or all added up.

/** The table of e^-x: steps in one unit, and where it ends. Beyond, 64,000 such terms are less than 1e-9 of the largest. */
export const STEPS: i32 = 64;
export const DEEPEST: i32 = 32;

/** Tokens under one node of the noise tree's last but one level. */
export const GROUP: i32 = 64;

const FLOAT: usize = 4;
const DOUBLE: usize = 8;
const REGISTER: usize = 16;

/** What `openWeights` needs. */
export const TABLE_BYTES: usize = <usize>(STEPS * DEEPEST) * DOUBLE + 9 * REGISTER;

/** What `addUp` found: the weight of all that count, of those above, and how many count. */
export let sumAll: f64 = 0;
export let sumAbove: f64 = 0;
export let sumCount: i32 = 0;

let exponentials: usize = 0;
let constants: usize = 0;

/** Fill the tables; once. @param at where they may lie, a multiple of 16. */
export function openWeights(at: usize): void {
  exponentials = at;
  constants = at + <usize>(STEPS * DEEPEST) * DOUBLE;
  for (let i = 0; i < STEPS * DEEPEST; i++) store<f64>(exponentials + i * DOUBLE, Math.exp(-i / <f64>STEPS));
  setConstant(0, Mathf.LOG2E);
  setConstant(1, -64);
  setConstant(2, 12582912);
  // The polynomial of degree 5 that is nearest to 2^x for |x| <= 0.5 in relative terms: 1.1e-7 of it.
  setConstant(3, 1);
  setConstant(4, 0.693147);
  setConstant(5, 0.24022242);
  setConstant(6, 0.05550734);
  setConstant(7, 0.009671513);
  setConstant(8, 0.0013264719);
}

/** `e^-depth` with a relative error below 1e-6, that of a float32 logit; 0 from the table's end on. */
// @ts-ignore: decorator
@inline
export function weightOf(depth: f32): f64 {
  if (depth >= <f32>DEEPEST) return 0;
  const index = <i32>(depth * <f32>STEPS);
  const rest = <f64>depth - <f64>index * (1 / <f64>STEPS);
  return load<f64>(exponentials + index * DOUBLE) * (1 - rest * (1 - rest * 0.5));
}

/**
 * Add up how much the logits >= `floor` weigh, and of these those >= `high`; bring together those in between, from `low` on.
 * @param candidates room for them. @returns how many these are; the sums are in `sumAll`, `sumAbove` and `sumCount`.
 */
export function addUp(
  logits: usize, tops: usize, groups: i32, largest: f32, floor: f32, high: f32, low: f32, candidates: usize,
): i32 {
  const largests = f32x4.splat(largest);
  const floors = f32x4.splat(floor);
  const highs = f32x4.splat(high);
  const lows = f32x4.splat(low);
  // From memory, lest V8 make each of them anew for every four tokens.
  const log2e = constant(0);
  const least = constant(1);
  const rounder = constant(2);
  const one = constant(3);
  const series1 = constant(4);
  const series2 = constant(5);
  const series3 = constant(6);
  const series4 = constant(7);
  const series5 = constant(8);
  let all = f64x2.splat(0);
  let above = f64x2.splat(0);
  let count = i32x4.splat(0);
  let end = candidates;
  for (let group = 0; group < groups; group++) {
    if (!(load<f32>(tops + <usize>group * FLOAT) >= floor)) continue;
    let groupAll = f32x4.splat(0);
    let groupAbove = f32x4.splat(0);
    const start = logits + <usize>(group * GROUP) * FLOAT;
    for (let at = start; at < start + <usize>GROUP * FLOAT; at += REGISTER) {
      const four = v128.load(at);
      const halvings = f32x4.pmax(f32x4.mul(f32x4.sub(four, largests), log2e), least);
      // So large a number has no room for a fraction: its last bits are the whole one.
      const shifted = f32x4.add(halvings, rounder);
      const rest = f32x4.sub(halvings, f32x4.sub(shifted, rounder));
      let power = f32x4.add(f32x4.mul(series5, rest), series4);
      power = f32x4.add(f32x4.mul(power, rest), series3);
      power = f32x4.add(f32x4.mul(power, rest), series2);
      power = f32x4.add(f32x4.mul(power, rest), series1);
      power = f32x4.add(f32x4.mul(power, rest), one);
      const isLooked = f32x4.ge(four, floors);
      const isAbove = f32x4.ge(four, highs);
      const weights = v128.and(i32x4.add(power, i32x4.shl(shifted, 23)), isLooked);
      count = i32x4.sub(count, isLooked);
      groupAll = f32x4.add(groupAll, weights);
      groupAbove = f32x4.add(groupAbove, v128.and(weights, isAbove));
      for (let lanes = i32x4.bitmask(v128.andnot(f32x4.ge(four, lows), isAbove)); lanes != 0; lanes &= lanes - 1) {
        store<f32>(end, load<f32>(at + <usize>ctz(lanes) * FLOAT));
        end += FLOAT;
      }
    }
    all = f64x2.add(all, doublesOf(groupAll));
    above = f64x2.add(above, doublesOf(groupAbove));
  }
  sumAll = f64x2.extract_lane(all, 0) + f64x2.extract_lane(all, 1);
  sumAbove = f64x2.extract_lane(above, 0) + f64x2.extract_lane(above, 1);
  sumCount = i32x4.extract_lane(count, 0) + i32x4.extract_lane(count, 1) + i32x4.extract_lane(count, 2) + i32x4.extract_lane(count, 3);
  return <i32>((end - candidates) / FLOAT);
}

/** The sums of two lanes each. */
// @ts-ignore: decorator
@inline
function doublesOf(four: v128): v128 {
  const upper = i8x16.shuffle(four, four, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  return f64x2.add(f64x2.promote_low_f32x4(four), f64x2.promote_low_f32x4(upper));
}

function setConstant(i: i32, value: f32): void {
  v128.store(constants + <usize>i * REGISTER, f32x4.splat(value));
}

function constant(i: i32): v128 {
  return v128.load(constants + <usize>i * REGISTER);
}
