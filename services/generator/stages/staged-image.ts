import type { Latent } from "#libs/flow/latent.js";
import type { GenerationTimings } from "../engine/generation.js";
import type { StageRequest } from "./stage-generation.js";
import type { StageMemory, StageOutput, StageRow } from "./stage-model.js";

/** Text places are given out in blocks, so that prompts of about one length share their passes. */
const TEXT_BLOCK = 16;

/**
 * Where an image stands: waiting for a slot, ready for its next pass, in a pass, awaiting the latent of its last map, or over.
 */
export type StagedStatus = "waiting" | "ready" | "passing" | "awaiting" | "over";

/** One image's generation: the only state that changes while it runs. */
export class StagedImage {
  readonly id: number;
  readonly imageIndex: number;
  readonly priority: StageRequest["priority"];
  /** One slot, whatever its branches. */
  readonly rows = 1;
  /** Text places of both branches. */
  readonly textCount: number;
  /** As in `performance.now()`. */
  readonly arrivedAt = performance.now();
  status: StagedStatus = "waiting";
  /** The stage that comes next, or whose latent is awaited. */
  stage = 0;
  /** When it was given its slot. */
  startedAt = 0;
  /** Since when it could have been in its next pass. */
  readyAt = 0;
  /** Ends it if no latent comes. */
  timer: NodeJS.Timeout | undefined;
  #latent: Latent | undefined;
  #prefillMs = 0;
  #decodeMs = 0;
  #decodeSteps = 0;
  readonly #branches: readonly { readonly tokens: readonly number[]; memory: readonly StageMemory[] }[];

  /** @param textPlaces most text tokens of a branch. */
  constructor(id: number, request: StageRequest, imageIndex: number, textPlaces: number) {
    this.id = id;
    this.imageIndex = imageIndex;
    this.priority = request.priority;
    const texts = request.guidanceScale === 1 ? [request.promptTokens] : [request.promptTokens, request.negativePromptTokens];
    const longest = Math.max(...texts.map(({ length }) => length));
    this.textCount = Math.min(textPlaces, Math.ceil(longest / TEXT_BLOCK) * TEXT_BLOCK);
    this.#branches = texts.map((tokens) => ({ tokens, memory: [] }));
  }

  /** What its next pass needs: the conditional row, and the unconditional one unless guidance is off. */
  get nextRows(): readonly StageRow[] {
    return this.#branches.map(({ tokens, memory }) => ({ tokens, textCount: this.textCount, memory, latent: this.#latent }));
  }

  /** Take in what a pass gave for its rows. */
  passed(outputs: readonly StageOutput[], passMs: number): void {
    this.#branches.forEach((branch, row) => {
      const { memory } = outputs[row];
      branch.memory = memory === undefined ? [] : [...branch.memory, memory];
    });
    if (this.stage === 0) this.#prefillMs = passMs;
    else {
      this.#decodeMs += passMs;
      this.#decodeSteps++;
    }
  }

  /** Go on with what the flow made of its last map. */
  advance(latent: Latent): void {
    this.#latent = latent;
    this.stage++;
  }

  /** Its figures for the client. */
  get timings(): GenerationTimings {
    return {
      queueMs: this.startedAt - this.arrivedAt, prefillMs: this.#prefillMs, decodeMs: this.#decodeMs, decodeSteps: this.#decodeSteps, draftedTokens: 0, acceptedTokens: 0,
      preemptions: 0, reusedPromptTokens: 0, reusedNegativeTokens: 0,
    };
  }
}
