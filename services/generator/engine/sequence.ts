/** How each token is drawn from the guided distribution. */
export interface SamplingSettings {
  /** Divides the logits, >= 0; 0 takes the most likely token. */
  readonly temperature: number;
  /** Keeps the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Keeps the most likely tokens up to this probability, > 0 .. 1. */
  readonly topP: number;
}

/** One image to generate. */
export interface SequenceRequest extends SamplingSettings {
  /** Text tokens of the prompt, template included. */
  readonly promptTokens: readonly number[];
  /** Text tokens of the unconditional branch; ignored when guidance is off. */
  readonly negativePromptTokens: readonly number[];
  /** Unitless, >= 1; 1 runs the conditional branch alone. */
  readonly guidanceScale: number;
  /** 64 bits. */
  readonly seed: bigint;
  readonly imageIndex: number;
}

/** Where one image's time went. */
export interface SequenceTimings {
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Passes after prefill, each over all rows of the guided pair. */
  readonly decodeSteps: number;
}

/** What happens to a sequence, in order: prefilled once, tokens until the image is whole, finished once. */
export type SequenceEvent =
  | { readonly type: "prefilled" }
  | { readonly type: "tokens"; readonly offset: number; readonly tokens: readonly number[] }
  | { readonly type: "finished"; readonly timings: SequenceTimings };
