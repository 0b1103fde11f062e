import { enlarged, weightedSum, type Latent } from "./latent.js";
import { blockNoise } from "./noise.js";
import { jumpAfter, timeAt, type FlowStage } from "./schedule.js";

/** Where a state is heading: the stage's end less its start, `[channels, height, width]`. @param time of the whole flow. */
export type Velocity = (state: Latent, time: number) => Promise<Latent>;

/** A stage's end, and what its last velocity was. */
export interface StageEnd {
  readonly state: Latent;
  readonly velocity: Latent;
}

/**
 * The start of a stage from the end of the one before it, twice as large: as noisy as training had it.
 * @param white independent standard normal numbers in the new size.
 */
export function renoised(end: Latent, { endNoise }: FlowStage, white: Latent): Latent {
  const { signal, noise } = jumpAfter(endNoise);
  return weightedSum(signal, enlarged(end), noise, blockNoise(white));
}

/**
 * Take a stage's share of the noise away: from its start to its end in `steps` steps by the explicit midpoint rule, two
 * velocities a step.
 * @param start stays the caller's.
 */
export async function denoised(start: Latent, stage: FlowStage, steps: number, velocityAt: Velocity): Promise<StageEnd> {
  let state = start;
  let velocity = start;
  for (let step = 0; step < steps; step++) {
    const left = 1 - step / steps;
    const first = await velocityAt(state, timeAt(stage, left));
    const middle = weightedSum(1, state, 0.5 / steps, first);
    velocity = await velocityAt(middle, timeAt(stage, left - 0.5 / steps));
    state = weightedSum(1, state, 1 / steps, velocity);
  }
  return { state, velocity };
}

/**
 * The clean latent, in the size of the stage, that a stage's end is heading for: its path run on to where no noise would be
 * left. Exact for what the path keeps, the means of squares.
 */
export function cleanEstimate({ state, velocity }: StageEnd, { startNoise, endNoise }: FlowStage): Latent {
  return weightedSum(1, state, endNoise / (startNoise - endNoise), velocity);
}
