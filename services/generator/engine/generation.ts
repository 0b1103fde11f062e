/** How each token is drawn from the guided distribution. */
export interface SamplingSettings {
  /** Divides the logits, >= 0; 0 takes the most likely token. */
  readonly temperature: number;
  /** Keeps the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Keeps the most likely tokens up to this probability, > 0 .. 1. */
  readonly topP: number;
  /** Divides the positive logits of tokens that the image has already and multiplies the negative ones, > 0; 1 for none. */
  readonly repetitionPenalty: number;
}

/** How urgently images are wanted, the least first. */
export const PRIORITIES = ["low", "normal", "high"] as const;

/** One of `PRIORITIES`. */
export type Priority = (typeof PRIORITIES)[number];

/** How drafted tokens are verified; `verifyCoupled` and `verifyByRejection` say what each promises. */
export type Verification = "coupled" | "rejection";

/** How speculation is done. */
export interface SpeculationSettings {
  /** Positions in one pass, 1 .. `MAX_DRAFT_WINDOW`; 1 turns speculation off. */
  readonly draftWindow: number | "auto";
  readonly verification: Verification;
}

/** One image of a request. */
export interface ImageRequest {
  readonly imageIndex: number;
  /** Its first image tokens, if it is to be continued; fewer than a whole image. */
  readonly prefix: readonly number[];
}

/** What an engine is asked for: images of one prompt. */
export interface GenerationRequest extends SamplingSettings {
  /** Text tokens of the prompt, template included. */
  readonly promptTokens: readonly number[];
  /** Text tokens of the unconditional branch; ignored when guidance is off. */
  readonly negativePromptTokens: readonly number[];
  /** Unitless, >= 1; 1 runs the conditional branch alone. */
  readonly guidanceScale: number;
  /** 64 bits. */
  readonly seed: bigint;
  readonly images: readonly ImageRequest[];
  readonly priority: Priority;
  readonly speculation: SpeculationSettings;
  /** As in `Date.now()`; Infinity for none. */
  readonly deadline: number;
}

/** Where one image's time and work went. */
export interface GenerationTimings {
  /** Waiting for rows, first and after every preemption. */
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Passes after prefill, each over all rows of the guided pair. */
  readonly decodeSteps: number;
  /** Drafts that were verified. */
  readonly draftedTokens: number;
  /** Drafts that were right. */
  readonly acceptedTokens: number;
  /** Times it gave way to a more urgent image. */
  readonly preemptions: number;
  /** Prompt tokens that needed no pass. */
  readonly reusedPromptTokens: number;
  /** The same of the negative prompt. */
  readonly reusedNegativeTokens: number;
}

/**
 * What happens to a request, in order: queued any number of times until its first image starts, and then for each image
 * started, prefilled, tokens without gaps, finished. The images' events are interleaved.
 */
export type GenerationEvent =
  | { readonly type: "queued"; readonly position: number; readonly estimatedStartMs: number }
  | { readonly type: "started"; readonly imageIndex: number }
  | { readonly type: "prefilled"; readonly imageIndex: number }
  | { readonly type: "tokens"; readonly imageIndex: number; readonly offset: number; readonly tokens: readonly number[] }
  | { readonly type: "finished"; readonly imageIndex: number; readonly timings: GenerationTimings };
