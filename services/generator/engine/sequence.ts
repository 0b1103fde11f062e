import { acceptanceIn, freshAcceptance } from "./draft-window.js";
import type { GenerationRequest, GenerationTimings } from "./generation.js";
import type { Law } from "./law.js";
import type { Prompt } from "./prompt-cache.js";
import type { Draft } from "./speculative.js";

/** How much the latest draft counts in a sequence's acceptance: what a few tell is mostly chance. */
const WEIGHT = 0.02;

/** Where a sequence stands: waiting for rows, its prompts in prefill, its rows in the batch, or at its end. */
export type SequenceStatus = "waiting" | "prefill" | "decode" | "finished";

/** One image's generation: the only state that changes while it runs. */
export class Sequence {
  readonly id: number;
  readonly request: GenerationRequest;
  readonly imageIndex: number;
  /** Image tokens so far, the prefix included; all of them final. */
  readonly tokens: number[];
  readonly arrivedAt: number;
  status: SequenceStatus = "waiting";
  /** Conditional, then unconditional unless guidance is off; held during prefill only. */
  prompts: readonly Prompt[] = [];
  /** Tokens that may come next. */
  drafts: readonly Draft[] = [];
  /** Drafts that were not fed, only to see how good they would have been. */
  looks: readonly Draft[] = [];
  /** The law of the last position that was looked at, after all processors: what drafts further ahead are drawn from. */
  lastLaw: Law | undefined;
  /** Probability that a fresh draft is right if those before it are. */
  acceptance: number;
  /** When its turn came, last. */
  startedAt = 0;
  /** Tokens that have been handed on. */
  emitted: number;
  emittedAt = 0;
  /** Passes whose random numbers are its own. */
  passes = 0;
  /** When it took its latest tokens. */
  takenAt = 0;
  /** Since when it waits for rows. */
  waitingSince: number;
  queueMs = 0;
  prefillMs = 0;
  decodeMs = 0;
  decodeSteps = 0;
  draftedTokens = 0;
  acceptedTokens = 0;
  preemptions = 0;
  reusedPromptTokens = 0;
  reusedNegativeTokens = 0;
  readonly #prefixLength: number;

  /** @param acceptance how good drafts have been for others. */
  constructor(id: number, request: GenerationRequest, image: GenerationRequest["images"][number], acceptance: number) {
    this.id = id;
    this.request = request;
    this.imageIndex = image.imageIndex;
    this.tokens = [...image.prefix];
    this.#prefixLength = image.prefix.length;
    this.emitted = image.prefix.length;
    this.acceptance = acceptance;
    this.arrivedAt = performance.now();
    this.waitingSince = this.arrivedAt;
  }

  get priority(): GenerationRequest["priority"] {
    return this.request.priority;
  }

  /** Tokens drawn here, the prefix left out. */
  get newTokens(): number {
    return this.tokens.length - this.#prefixLength;
  }

  /** Rows of the cache that it needs: one for each branch. */
  get rows(): number {
    return this.request.guidanceScale === 1 ? 1 : 2;
  }

  /** Note how the drafts of a window fared. */
  observe(window: number, evaluated: number, accepted: number): void {
    this.draftedTokens += evaluated;
    this.acceptedTokens += accepted;
    if (evaluated === 0) return;
    const expected = acceptanceIn(window, this.acceptance);
    const learned = expected + (1 - (1 - WEIGHT) ** evaluated) * (accepted / evaluated - expected);
    this.acceptance = freshAcceptance(window, learned);
  }

  /** Note whether a draft that was not fed would have been right. */
  lookedAt(isRight: boolean): void {
    this.acceptance += WEIGHT * (Number(isRight) - this.acceptance);
  }

  /** Its figures for the client. */
  get timings(): GenerationTimings {
    const { queueMs, prefillMs, decodeMs, decodeSteps, draftedTokens, acceptedTokens, preemptions } = this;
    const { reusedPromptTokens, reusedNegativeTokens } = this;
    return {
      queueMs, prefillMs, decodeMs, decodeSteps, draftedTokens, acceptedTokens, preemptions, reusedPromptTokens, reusedNegativeTokens,
    };
  }
}
