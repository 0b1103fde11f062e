import type { SlotsSnapshot } from "./kv-slots.js";

/** Sums since the engine began; those about images count images that have ended. */
export interface EngineCounters {
  readonly steps: number;
  /** Milliseconds of all steps. */
  readonly stepMs: number;
  /** Milliseconds of the steps that the model took. */
  readonly passMs: number;
  /** Passes of the batch. */
  readonly decodePasses: number;
  readonly imageTokens: number;
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  readonly preemptions: number;
  readonly reusedPromptTokens: number;
  readonly reusedNegativeTokens: number;
}

/** How an engine stands between two steps. */
export interface EngineSnapshot {
  /** Requests none of whose images has started. */
  readonly waitingRequests: number;
  /** Images waiting for rows. */
  readonly waiting: number;
  /** Images with rows. */
  readonly running: number;
  readonly slots: SlotsSnapshot;
  /** Image tokens still to be drawn for the images waiting. */
  readonly waitingTokens: number;
  /** Positions filled in the batch, of `maxPositions`. */
  readonly filledPositions: number;
  readonly maxPositions: number;
  /** Milliseconds until a new image would start. */
  readonly estimatedStartMs: number;
  readonly counters: EngineCounters;
}
