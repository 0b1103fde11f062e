/** The flow's share of one stage. Noise shares are of the whole: 1 is pure noise, 0 the clean latent. */
export interface FlowStage {
  /** Noise share at which the stage starts, right after `renoise`; 1 at the first stage. */
  readonly startNoise: number;
  /** Noise share at which it ends, below `startNoise`; 0 at the last stage. */
  readonly endNoise: number;
  /** Place of its start and end in the time of the whole flow, 0 .. 1: what the flow head is told. */
  readonly startTime: number;
  readonly endTime: number;
}

/** How a stage's end becomes the next one's start: `signal` times it, twice as large, plus `noise` times block noise. */
export interface Jump {
  readonly signal: number;
  readonly noise: number;
  /** The noise share that comes of it. */
  readonly startNoise: number;
}

/**
 * What keeps the law of the noise over the jump behind a stage that ends at `endNoise`: enlarging by nearest neighbours
 * correlates the noise inside each square of four, and block noise takes that away again.
 * @see Jin et al., "Pyramidal flow matching", arXiv 2410.05954, section 3.2
 */
export function jumpAfter(endNoise: number): Jump {
  const kept = 1 - endNoise;
  const signal = 1 / (2 - kept);
  return { signal, noise: Math.sqrt(3) * signal * (1 - kept), startNoise: 1 - signal * kept };
}

/**
 * The flow cut into `count` stages of equal shares of the noise: stage s of them, counted from 0, ends at 1 - (s + 1) / count.
 * A stage's time is as long as the noise that it takes away.
 */
export function equalStages(count: number): readonly FlowStage[] {
  const noises = Array.from({ length: count }, (_, stage) => ({
    startNoise: stage === 0 ? 1 : jumpAfter(1 - stage / count).startNoise, endNoise: 1 - (stage + 1) / count,
  }));
  const total = noises.reduce((sum, { startNoise, endNoise }) => sum + startNoise - endNoise, 0);
  let time = 0;
  return noises.map(({ startNoise, endNoise }) => {
    const startTime = time;
    time += (startNoise - endNoise) / total;
    return { startNoise, endNoise, startTime, endTime: time };
  });
}

/** The time that the flow head is told at `left` of a stage, 1 at its start and 0 at its end. */
export function timeAt({ startTime, endTime }: FlowStage, left: number): number {
  return startTime + (1 - left) * (endTime - startTime);
}

/** The guidance scale of a stage that has a share of it: 0 turns guidance off there, 1 is all of it. */
export function stageGuidance(guidanceScale: number, share: number): number {
  return 1 + share * (guidanceScale - 1);
}
