import type { GenerationTimings, Priority } from "../engine/generation.js";

/** What a stage engine is asked for: images of one prompt. */
export interface StageRequest {
  /** Text tokens of the prompt, template included. */
  readonly promptTokens: readonly number[];
  /** Text tokens of the unconditional branch; ignored when guidance is off. */
  readonly negativePromptTokens: readonly number[];
  /** Unitless, >= 1; 1 runs the conditional branch alone. */
  readonly guidanceScale: number;
  readonly imageCount: number;
  readonly priority: Priority;
  /** As in `Date.now()`; Infinity for none. */
  readonly deadline: number;
}

/**
 * What happens to a request, in order: queued any number of times until its first image starts, and then for each image
 * started, a map for every stage, each after the latent of the one before was delivered, finished. The images' events are
 * interleaved.
 */
export type StageEvent =
  | { readonly type: "queued"; readonly position: number; readonly estimatedStartMs: number }
  | { readonly type: "started"; readonly imageIndex: number }
  | StageMapEvent
  | { readonly type: "finished"; readonly imageIndex: number; readonly timings: GenerationTimings };

/** A stage's token map; each branch `[height * width, tokenMapChannels]`. */
export interface StageMapEvent {
  readonly type: "map";
  readonly imageIndex: number;
  readonly stage: number;
  readonly conditional: Float32Array;
  /** Undefined when guidance is off. */
  readonly unconditional: Float32Array | undefined;
}
