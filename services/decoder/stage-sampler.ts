import type { StageSection } from "#libs/bundle/stage-manifest.js";
import { weightedSum, type Latent, type LatentShape } from "#libs/flow/latent.js";
import { gaussianNoise, type NoiseAddress } from "#libs/flow/noise.js";
import { stageGuidance } from "#libs/flow/schedule.js";
import { denoised, renoised, type StageEnd } from "#libs/flow/stage-flow.js";
import type { FlowHead } from "./flow-head.js";

/** A stage's tokens, `[height * width, tokenMapChannels]`. */
export interface TokenMaps {
  readonly conditional: Float32Array;
  /** Undefined at a stage without guidance. */
  readonly unconditional: Float32Array | undefined;
}

/** One stage of one image. */
export interface StageSample {
  /** 0 is the coarsest. */
  readonly stage: number;
  readonly maps: TokenMaps;
  /** Where the stage starts. */
  readonly start: Latent;
  /** Of the whole image; the stage has its share of it. */
  readonly guidanceScale: number;
  readonly signal: AbortSignal;
}

/**
 * Where a stage starts: in noise at the first, else at the end of the one before, made noisier. A function of the address
 * and of what the stage before ended in.
 */
export function stageStart(
  stages: readonly StageSection[], address: NoiseAddress, channels: number, before: Latent | undefined,
): Latent {
  const { height, width } = stages[address.stage];
  const shape: LatentShape = { channels, height, width };
  const white = gaussianNoise(address, shape);
  return before === undefined ? white : renoised(before, stages[address.stage - 1], white);
}

/**
 * Take a stage's share of the noise away, as its token maps say.
 * @throws the signal's reason when it aborts first.
 */
export function sampleStage(
  head: Pick<FlowHead, "velocity">, section: StageSection, { stage, maps, start, guidanceScale, signal }: StageSample,
): Promise<StageEnd> {
  const scale = stageGuidance(guidanceScale, section.guidanceShare);
  return denoised(start, section, section.steps, async (latent, time) => {
    const look = (tokenMap: Float32Array): Promise<Latent> => head.velocity({ stage, latent, tokenMap, time }, { signal });
    if (scale === 1 || maps.unconditional === undefined) return look(maps.conditional);
    const [conditional, unconditional] = await Promise.all([look(maps.conditional), look(maps.unconditional)]);
    return weightedSum(scale, conditional, 1 - scale, unconditional);
  });
}
