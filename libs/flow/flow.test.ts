import assert from "node:assert/strict";
import { test } from "node:test";
import { enlarged, halved, weightedSum, type Latent } from "./latent.js";
import { blockNoise, gaussianNoise } from "./noise.js";
import { equalStages, stageGuidance, jumpAfter, timeAt } from "./schedule.js";
import { cleanEstimate, denoised, renoised, type StageEnd, type Velocity } from "./stage-flow.js";

const SHAPE = { channels: 3, height: 8, width: 12 };
const white = (stage: number, scale: number): Latent =>
  gaussianNoise({ seed: 5n, imageIndex: 0, stage }, { channels: 3, height: 8 / scale, width: 12 / scale });

function largestDistance(a: Latent, b: Latent): number {
  assert.equal(a.values.length, b.values.length);
  return a.values.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b.values[i])), 0);
}

/** Mean product of numbers at two places of each square of four, over many latents. */
function covariance(make: (seed: bigint) => Latent, a: readonly [number, number], b: readonly [number, number]): number {
  let sum = 0;
  let count = 0;
  for (let seed = 0n; seed < 40n; seed++) {
    const { values, width } = make(seed);
    const rows = values.length / width;
    for (let row = 0; row + 3 < rows; row += 4) {
      for (let column = 0; column + 3 < width; column += 4) {
        const at = ([y, x]: readonly [number, number]): number => values[(row + y) * width + column + x];
        sum += at(a) * at(b);
        count++;
      }
    }
  }
  return sum / count;
}

test("the schedule is the published one", () => {
  const rounded = (count: number) => equalStages(count).map(({ startNoise, endNoise, endTime }) =>
    [startNoise, endNoise, endTime].map((value) => Math.round(value * 1e4) / 1e4));
  assert.deepEqual(rounded(2), [[1, 0.5, 0.4286], [0.6667, 0, 1]]);
  assert.deepEqual(rounded(3), [[1, 0.6667, 0.2564], [0.8, 0.3333, 0.6154], [0.5, 0, 1]]);
  assert.deepEqual(rounded(4), [[1, 0.75, 0.1756], [0.8571, 0.5, 0.4264], [0.6667, 0.25, 0.7191], [0.4, 0, 1]]);
  assert.deepEqual([jumpAfter(0.25).signal, jumpAfter(0.25).noise].map((value) => value.toFixed(4)), ["0.8000", "0.3464"]);
  const [, stage] = equalStages(3);
  assert.deepEqual([timeAt(stage, 1), timeAt(stage, 0)], [stage.startTime, stage.endTime]);
});

test("a stage has its share of guidance", () => {
  assert.deepEqual([0, 0.5, 1].map((share) => stageGuidance(3, share)), [1, 2, 3]);
  assert.equal(stageGuidance(1, 0.5), 1);
});

test("noise is addressed: by seed, image and stage, and by nothing else", () => {
  const address = { seed: 7n, imageIndex: 1, stage: 1 };
  const noise = gaussianNoise(address, SHAPE);
  assert.deepEqual(gaussianNoise(address, SHAPE), noise);
  for (const change of [{ seed: 7n + (1n << 40n) }, { imageIndex: 0 }, { stage: 2 }]) {
    assert.notDeepEqual(gaussianNoise({ ...address, ...change }, SHAPE).values, noise.values);
  }
  const odd = gaussianNoise(address, { channels: 1, height: 1, width: 7 });
  assert.deepEqual(odd.values, noise.values.slice(0, 7));
});

test("noise is standard normal, block noise the same with covariance -1/3 inside a square and none across", () => {
  const large = { channels: 4, height: 32, width: 32 };
  const normal = (seed: bigint): Latent => gaussianNoise({ seed, imageIndex: 0, stage: 0 }, large);
  const block = (seed: bigint): Latent => blockNoise(normal(seed));
  const near = (actual: number, expected: number): void => assert.ok(Math.abs(actual - expected) < 0.03, `${actual}, not ${expected}`);
  near(covariance(normal, [0, 0], [0, 0]), 1);
  near(covariance(normal, [0, 0], [0, 1]), 0);
  near(covariance(block, [1, 1], [1, 1]), 1);
  near(covariance(block, [0, 0], [0, 1]), -1 / 3);
  near(covariance(block, [0, 0], [1, 1]), -1 / 3);
  near(covariance(block, [0, 1], [0, 2]), 0);
});

test("a state after the jump is white noise of the stage's share around its share of the signal", () => {
  const [first, second] = equalStages(3);
  const large = { channels: 4, height: 32, width: 32 };
  const small = { channels: 4, height: 16, width: 16 };
  const made = (seed: bigint): Latent => {
    const noise = gaussianNoise({ seed, imageIndex: 0, stage: 0 }, small);
    const end = { ...noise, values: noise.values.map((value) => first.endNoise * value) };
    return renoised(end, first, gaussianNoise({ seed, imageIndex: 0, stage: 1 }, large));
  };
  const variance = second.startNoise ** 2;
  const near = (actual: number, expected: number): void => assert.ok(Math.abs(actual - expected) < 0.03, `${actual}, not ${expected}`);
  near(covariance(made, [0, 0], [0, 0]), variance);
  near(covariance(made, [0, 0], [0, 1]), 0);
  near(covariance(made, [0, 1], [0, 2]), 0);
  const ones = { ...small, values: new Float32Array(4 * 16 * 16).fill(1 - first.endNoise) };
  const noiseless = { ...large, values: new Float32Array(4 * 32 * 32) };
  assert.ok(renoised(ones, first, noiseless).values.every((value) => Math.abs(value - (1 - second.startNoise)) < 1e-6));
});

/** Sample with the velocity that leads to a known latent, and hold every stage's estimate to it. */
async function sampleByOracle(clean: Latent, steps: number): Promise<Latent> {
  const stages = equalStages(3);
  const pyramid = [halved(halved(clean)), halved(clean), clean];
  let last: StageEnd | undefined;
  for (const [index, stage] of stages.entries()) {
    const noise = white(index, 2 ** (2 - index));
    const start = last === undefined ? noise : renoised(last.state, stages[index - 1], noise);
    // What the start holds of the coarser latent is known, so its noise is the rest.
    const coarse = index === 0 ? undefined : enlarged(pyramid[index - 1]);
    const kept = 1 - stage.startNoise;
    const ownNoise = coarse === undefined ? start : weightedSum(1 / stage.startNoise, start, -kept / stage.startNoise, coarse);
    const end = weightedSum(1 - stage.endNoise, pyramid[index], stage.endNoise, ownNoise);
    const times: number[] = [];
    const velocity: Velocity = async (_, time) => {
      times.push(time);
      return weightedSum(1, end, -1, start);
    };
    last = await denoised(start, stage, steps, velocity);
    assert.equal(times.length, 2 * steps);
    assert.equal(times[0], stage.startTime);
    assert.ok(largestDistance(halved(cleanEstimate(last.last, stage)), halved(pyramid[index])) < 1e-5);
  }
  return last!.state;
}

test("the exact velocity leads to the clean latent in any number of steps, and every stage foresees its means", async () => {
  const clean = gaussianNoise({ seed: 99n, imageIndex: 0, stage: 0 }, SHAPE);
  for (const steps of [1, 2, 3, 7]) assert.ok(largestDistance(await sampleByOracle(clean, steps), clean) < 1e-5);
});

test("the midpoint rule is of second order: half the step, a quarter of the error", async () => {
  const [stage] = equalStages(1);
  const start = white(0, 1);
  // dx/dp = x over the stage, p its progress: ends at e times the start.
  const errorOf = async (steps: number): Promise<number> => {
    const { state } = await denoised(start, stage, steps, async (each) => each);
    return largestDistance(state, { ...start, values: start.values.map((value) => value * Math.E) });
  };
  const ratio = (await errorOf(4)) / (await errorOf(8));
  assert.ok(ratio > 3.5 && ratio < 4.5, `got ${ratio}`);
});

test("halving undoes enlarging, and the two see channels apart", () => {
  const noise = gaussianNoise({ seed: 1n, imageIndex: 0, stage: 0 }, { channels: 2, height: 2, width: 3 });
  assert.deepEqual(halved(enlarged(noise)), noise);
  assert.deepEqual([...enlarged({ channels: 2, height: 1, width: 1, values: Float32Array.of(1, 2) }).values], [1, 1, 1, 1, 2, 2, 2, 2]);
  assert.throws(() => weightedSum(1, noise, 1, enlarged(noise)), { kind: "internal" });
});
