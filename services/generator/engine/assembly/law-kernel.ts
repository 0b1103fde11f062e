// From rows of logits to what may be drawn, in AssemblyScript: its loops work on SIMD registers, several times as fast as
// JavaScript's. `../law-kernel.ts` drives it; `npm run kernel` compiles it.

import { addUp, DEEPEST, GROUP, openWeights, STEPS, sumAbove, sumAll, sumCount, TABLE_BYTES, weightOf } from "./weights";

const FLOAT: usize = 4;
const DOUBLE: usize = 8;

/** Buckets of one round of the selection: steps below the largest logit in the first, then 11 bits of the floats each. */
const BUCKETS: i32 = STEPS * DEEPEST;
const ROUNDS: i32 = 4;

/** From so few candidates on, sorting is faster. */
const FEW: i32 = 64;

/** Of a flat law a sample is taken first: so many tokens of each group, this many at least that weigh anything. */
const SAMPLED: i32 = 2;
const LEAST_SAMPLE: i32 = 512;

/** How far the sample's idea of a share may be off: three times the deviation of 2,000 like weights at a share of 0.9. */
const MARGIN: f64 = 0.02;

/** `[V]` logits, filled up to whole groups: the caller's conditional row, and after `shape` the law's. */
export let logits: usize = 0;
/** `[V]` logits: the caller's unconditional row. */
export let unconditional: usize = 0;
/** Largest logit of each group, after `shape`. */
export let tops: usize = 0;

/** What `select` found: the smallest logit that is kept, and the largest id among those kept that have exactly this one. */
export let edge: f32 = 0;
export let lastTie: i32 = 0;
/** Weight of what is kept, and of all that was looked at, relative to the largest logit's. */
export let kept: f64 = 0;
export let total: f64 = 0;
/** Tokens that were not looked at, at most. */
export let missing: i32 = 0;

let groups: i32 = 0;
let largest: f32 = 0;
let candidates: usize = 0;
let buckets: usize = 0;

/** Lay the memory out for a codebook; once. */
export function open(codebookSize: i32): void {
  groups = (codebookSize + GROUP - 1) / GROUP;
  const row: usize = groups * GROUP * FLOAT;
  logits = (__heap_base + 15) & ~15;
  unconditional = logits + row;
  candidates = unconditional + row;
  tops = candidates + row;
  buckets = (tops + groups * FLOAT + 15) & ~15;
  const tables = buckets + BUCKETS * DOUBLE;
  const end = tables + TABLE_BYTES;
  memory.grow(<i32>((end + 0xffff) >>> 16) - memory.size());
  for (let v = codebookSize; v < groups * GROUP; v++) store<f32>(logits + v * FLOAT, -Infinity);
  openWeights(tables);
}

/** Guidance, then temperature, in place, and the largest logit of each group. @returns the largest of all. */
export function shape(isGuided: bool, guidanceScale: f32, temperature: f32): f32 {
  const scales = f32x4.splat(guidanceScale);
  const temperatures = f32x4.splat(temperature);
  const isTempered = temperature != 1;
  let best = f32x4.splat(-Infinity);
  for (let group = 0; group < groups; group++) {
    let top = f32x4.splat(-Infinity);
    const start = group * GROUP * FLOAT;
    for (let at = start; at < start + GROUP * FLOAT; at += 4 * FLOAT) {
      let four = v128.load(logits + at);
      if (isGuided) {
        const base = v128.load(unconditional + at);
        four = f32x4.add(base, f32x4.mul(scales, f32x4.sub(four, base)));
      }
      if (isTempered) four = f32x4.div(four, temperatures);
      v128.store(logits + at, four);
      top = f32x4.pmax(top, four);
    }
    store<f32>(tops + group * FLOAT, largestOf(top));
    best = f32x4.pmax(best, top);
  }
  largest = largestOf(best);
  return largest;
}

function largestOf(four: v128): f32 {
  const low = max<f32>(f32x4.extract_lane(four, 0), f32x4.extract_lane(four, 1));
  return max<f32>(low, max<f32>(f32x4.extract_lane(four, 2), f32x4.extract_lane(four, 3)));
}

/** The edge of the `k` largest logits and of all that tie with the smallest of them. */
export function selectCount(k: i32): void {
  let floor: f32 = -Infinity;
  if (k <= groups) {
    // So many groups have a token at least this large.
    memory.copy(candidates, tops, groups * FLOAT);
    kept = 0;
    find(groups, -1, false, k);
    floor = edge;
  }
  const length = gather(floor, false);
  kept = 0;
  find(length, 0, false, k);
  lastTie = i32.MAX_VALUE;
}

/** The edge of the smallest set that weighs at least `share` of all logits >= `floor`; of a tie the smallest ids stay. */
export function selectShare(share: f64, floor: f32): void {
  let ties = selectBracketed(share, floor);
  if (ties == 0) {
    const length = gather(floor, true);
    missing = groups * GROUP - length;
    total = sumOfBuckets();
    kept = 0;
    ties = find(length, 0, true, share * total);
  }
  lastTie = idOfTie(ties);
}

/**
 * As `selectShare`, if a sample can tell between which two logits the edge lies: then all others are only added up, four
 * at a time (Floyd & Rivest, "Expected time bounds for selection", 1975). @returns how many that tie with the edge are
 * needed; 0 if the sample is too small or was wrong: nothing is found then.
 */
function selectBracketed(share: f64, floor: f32): i32 {
  memory.fill(buckets, 0, BUCKETS * DOUBLE);
  let sampled = 0;
  for (let group = 0; group < groups; group++) {
    for (let i = 0; i < SAMPLED; i++) {
      const logit = load<f32>(logits + (group * GROUP + (group * 29 + i * (GROUP / SAMPLED)) % GROUP) * FLOAT);
      if (logit < floor) continue;
      count(logit, 0, true);
      sampled++;
    }
  }
  if (sampled < LEAST_SAMPLE) return 0;
  const sampleTotal = sumOfBuckets();
  const high = floorOfShare((share - MARGIN) * sampleTotal) + 1 / <f32>STEPS;
  const low = max<f32>(floorOfShare((share + MARGIN) * sampleTotal), floor);
  const length = addUp(logits, tops, groups, largest, floor, high, low, candidates);
  missing = groups * GROUP - sumCount;
  total = sumAll;
  kept = sumAbove;
  const enough = share * total;
  if (kept >= enough) return 0;
  const ties = find(length, -1, true, enough);
  return kept >= enough ? ties : 0;
}

function sumOfBuckets(): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < BUCKETS; i++) sum += load<f64>(buckets + i * DOUBLE);
  return sum;
}

/** The smallest logit of the bucket in which enough is reached; none is small enough if it never is. */
function floorOfShare(enough: f64): f32 {
  let sum: f64 = 0;
  for (let bucket = BUCKETS - 1; bucket > 0; bucket--) {
    sum += load<f64>(buckets + bucket * DOUBLE);
    if (sum >= enough) return largest - <f32>(BUCKETS - bucket) / <f32>STEPS;
  }
  return -Infinity;
}

/** The most likely token alone. */
export function selectLargest(): void {
  edge = largest;
  lastTie = idOfTie(1);
}

/** Bring the logits >= `floor` together and put them into the buckets of the first round. @returns how many. */
function gather(floor: f32, isShare: bool): i32 {
  memory.fill(buckets, 0, BUCKETS * DOUBLE);
  const floors = f32x4.splat(floor);
  let end = candidates;
  for (let group = 0; group < groups; group++) {
    if (!(load<f32>(tops + group * FLOAT) >= floor)) continue;
    const start = logits + group * GROUP * FLOAT;
    for (let at = start; at < start + GROUP * FLOAT; at += 4 * FLOAT) {
      for (let lanes = i32x4.bitmask(f32x4.ge(v128.load(at), floors)); lanes != 0; lanes &= lanes - 1) {
        const logit = load<f32>(at + ctz(lanes) * FLOAT);
        store<f32>(end, logit);
        end += FLOAT;
        count(logit, 0, isShare);
      }
    }
  }
  return <i32>((end - candidates) / FLOAT);
}

/**
 * The smallest of the largest candidates that together with what is kept weigh `enough`: a bucket selection until few are
 * left, which are sorted. @param counted the round that the buckets are about already. @returns how many that tie with it are needed.
 */
function find(length: i32, counted: i32, isShare: bool, enough: f64): i32 {
  for (let round = 0; round < ROUNDS && length > FEW; round++) {
    if (round != counted) {
      memory.fill(buckets, 0, BUCKETS * DOUBLE);
      for (let i = 0; i < length; i++) count(load<f32>(candidates + i * FLOAT), round, isShare);
    }
    length = narrow(length, round, enough);
  }
  sort(length);
  edge = -Infinity;
  let ties = 0;
  for (let i = 0; i < length && kept < enough; i++) {
    const logit = load<f32>(candidates + i * FLOAT);
    ties = logit == edge ? ties + 1 : 1;
    edge = logit;
    kept += isShare ? weightOf(largest - logit) : 1;
  }
  return ties;
}

/** Keep the candidates of the bucket in which enough is reached; those above it are kept for good. @returns how many. */
function narrow(length: i32, round: i32, enough: f64): i32 {
  let bucket = BUCKETS - 1;
  for (; bucket > 0; bucket--) {
    const sum = load<f64>(buckets + bucket * DOUBLE);
    if (kept + sum >= enough) break;
    kept += sum;
  }
  let left = 0;
  for (let i = 0; i < length; i++) {
    const logit = load<f32>(candidates + i * FLOAT);
    if (bucketOf(logit, round) == bucket) store<f32>(candidates + left++ * FLOAT, logit);
  }
  return left;
}

/** The largest first. */
function sort(length: i32): void {
  for (let i = 1; i < length; i++) {
    const logit = load<f32>(candidates + i * FLOAT);
    let at = candidates + i * FLOAT;
    for (; at > candidates && load<f32>(at - FLOAT) < logit; at -= FLOAT) store<f32>(at, load<f32>(at - FLOAT));
    store<f32>(at, logit);
  }
}

/** The id of the n-th token whose logit is the edge. */
function idOfTie(n: i32): i32 {
  const edges = f32x4.splat(edge);
  for (let group = 0; group < groups; group++) {
    if (load<f32>(tops + group * FLOAT) < edge) continue;
    for (let v = group * GROUP; v < (group + 1) * GROUP; v += 4) {
      for (let lanes = i32x4.bitmask(f32x4.eq(v128.load(logits + v * FLOAT), edges)); lanes != 0; lanes &= lanes - 1) {
        if (--n <= 0) return v + ctz(lanes);
      }
    }
  }
  return i32.MAX_VALUE;
}

// @ts-ignore: decorator
@inline
function count(logit: f32, round: i32, isShare: bool): void {
  const bucket = buckets + bucketOf(logit, round) * DOUBLE;
  store<f64>(bucket, load<f64>(bucket) + (isShare ? weightOf(largest - logit) : 1));
}

/** The larger the logit, the larger the bucket among those that the rounds before have left together. */
// @ts-ignore: decorator
@inline
function bucketOf(logit: f32, round: i32): i32 {
  if (round == 0) return BUCKETS - 1 - stepsBelow(logit);
  // -0 ties with 0.
  const bits = reinterpret<i32>(logit + 0);
  const ordered = bits ^ ((bits >> 31) | 0x80000000);
  return (round == 1 ? ordered >>> 21 : round == 2 ? ordered >>> 10 : ordered) & (BUCKETS - 1);
}

// @ts-ignore: decorator
@inline
function stepsBelow(logit: f32): i32 {
  const steps = (largest - logit) * <f32>STEPS;
  return steps < <f32>BUCKETS ? <i32>steps : BUCKETS - 1;
}
