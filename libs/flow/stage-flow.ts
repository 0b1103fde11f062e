import { enlarged, weightedSum, type Latent } from "./latent.js";
import { blockNoise } from "./noise.js";
import { jumpAfter, timeAt, type FlowStage } from "./schedule.js";

/** Where a state is heading: the stage's end less its start, `[channels, height, width]`. @param time of the whole flow. */
export type Velocity = (state: Latent, time: number) => Promise<Latent>;

/** One look at a velocity. */
export interface Sighting {
  readonly state: Latent;
  /** How much of the stage was left, 1 at its start and 0 at its end. */
  readonly left: number;
  readonly velocity: Latent;
}

/** A stage's end, and the last velocity on the way there. */
export interface StageEnd {
  readonly state: Latent;
  readonly last: Sighting;
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
 * @param start stays the caller's. @param steps at least 1.
 */
export async function denoised(start: Latent, stage: FlowStage, steps: number, velocityAt: Velocity): Promise<StageEnd> {
  const look = async (state: Latent, left: number): Promise<Sighting> => (
    { state, left, velocity: await velocityAt(state, timeAt(stage, left)) }
  );
  let end: StageEnd | undefined;
  for (let step = 0; step < steps; step++) {
    const left = 1 - step / steps;
    const state = end?.state ?? start;
    const first = await look(state, left);
    const last = await look(weightedSum(1, state, 0.5 / steps, first.velocity), left - 0.5 / steps);
    end = { state: weightedSum(1, state, 1 / steps, last.velocity), last };
  }
  return end!;
}

/**
 * The clean latent, in the size of the stage, that a velocity points to: its path run on to where no noise would be left.
 * Exact for what the path keeps, the means of squares.
 */
export function cleanEstimate({ state, left, velocity }: Sighting, { startNoise, endNoise }: FlowStage): Latent {
  return weightedSum(1, state, (startNoise * left + endNoise * (1 - left)) / (startNoise - endNoise), velocity);
}
