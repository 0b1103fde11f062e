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

/**
 * One image's generation: the only state that changes while it runs. Its latents are all that it needs: what the model
 * remembers of its stages can be dropped at any moment between two passes, and made again from them.
 */
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
  /** When it was first given a slot; 0 before. */
  startedAt = 0;
  /** Since when it could have been in its next pass. */
  readyAt = 0;
  /** Ends it if no latent comes. */
  timer: NodeJS.Timeout | undefined;
  /** Stages that the model remembers. */
  #stage = 0;
  /** Maps that have been handed on. */
  #mapCount = 0;
  #prefillMs = 0;
  #decodeMs = 0;
  #decodeSteps = 0;
  #preemptions = 0;
  readonly #latents: Latent[] = [];
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

  /** The stage that its next pass is for. */
  get stage(): number {
    return this.#stage;
  }

  /** The stage whose map is out and whose latent is not there yet. */
  get awaitedStage(): number | undefined {
    return this.#mapCount > this.#latents.length ? this.#latents.length : undefined;
  }

  /** Latents that it has been given. */
  get latentCount(): number {
    return this.#latents.length;
  }

  /** Whether nothing but a latent holds up its next pass. */
  get isAwaiting(): boolean {
    return this.#stage > this.#latents.length;
  }

  /** What its next pass needs: the conditional row, and the unconditional one unless guidance is off. */
  get nextRows(): readonly StageRow[] {
    const latent = this.#latents[this.#stage - 1];
    return this.#branches.map(({ tokens, memory }) => ({ tokens, textCount: this.textCount, memory, latent }));
  }

  /** Take in what a pass gave for its rows. @returns whether its map is new: not so while its memory is made again. */
  passed(outputs: readonly StageOutput[], passMs: number): boolean {
    this.#branches.forEach((branch, row) => {
      const { memory } = outputs[row];
      branch.memory = memory === undefined ? [] : [...branch.memory, memory];
    });
    if (this.#stage === 0) this.#prefillMs += passMs;
    else {
      this.#decodeMs += passMs;
      this.#decodeSteps++;
    }
    const isNew = this.#stage === this.#mapCount;
    this.#stage++;
    this.#mapCount = Math.max(this.#mapCount, this.#stage);
    return isNew;
  }

  /** Go on with what the flow made of its last map. */
  advance(latent: Latent): void {
    this.#latents.push(latent);
  }

  /** Give its slot up, and with it what the model remembers. */
  giveWay(): void {
    for (const branch of this.#branches) branch.memory = [];
    this.#stage = 0;
    this.#preemptions++;
    this.status = "waiting";
  }

  /** Its figures for the client. */
  get timings(): GenerationTimings {
    return {
      queueMs: this.startedAt - this.arrivedAt, prefillMs: this.#prefillMs, decodeMs: this.#decodeMs,
      decodeSteps: this.#decodeSteps, draftedTokens: 0, acceptedTokens: 0, preemptions: this.#preemptions, reusedPromptTokens: 0,
      reusedNegativeTokens: 0,
    };
  }
}
