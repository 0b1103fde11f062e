import { setTimeout as sleep } from "node:timers/promises";
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { AppError, invariant } from "#libs/errors/errors.js";
import type { CallLimits, ServiceClient } from "#libs/rpc/definition.js";
import type { GenerateResponse, GeneratorService, TokenChunk } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { GenerationSchema, TokenPrefixSchema, type Generation, type Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";

/** What is asked of a generator. */
export type GenerationInit = MessageInitShape<typeof GenerationSchema>;

/** How a lost generation is asked for again; the deadline holds for all tries together. */
export interface ResumeOptions extends CallLimits {
  /** Tries in a row that may fail before a generation is given up that has begun; each that brings tokens starts the count anew. */
  readonly maxRetries: number;
  /** The same before it has begun, when nothing is lost by giving up. */
  readonly maxFirstRetries?: number;
  /** Whether a full queue is asked again before the generation has begun; afterwards it always is, until the deadline. */
  readonly waitsForQueue?: boolean;
  /** Hears of every loss after the beginning that is to be made good, with the number of image tokens at hand. */
  readonly onLoss?: (error: AppError, tokens: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * The wait before a call is made again, where the service names none. It does not grow: of several replicas the next one
 * asked may well be one that serves.
 */
const RETRY_MS = 100;

/**
 * The responses of one Generate call, come what may: what was lost on the way, because its replica died or drained, goes
 * on at another from the tokens that have arrived. They are all of an image's state, so nothing is drawn twice, the
 * images end as they would have, and the responses are those of one call that nobody disturbed.
 * @throws AppError of the last try; the signal's reason.
 */
export async function* resumedGeneration(
  client: Pick<ServiceClient<typeof GeneratorService>, "generate">, generation: GenerationInit, options: ResumeOptions,
): AsyncGenerator<GenerateResponse, void, undefined> {
  const { maxRetries, maxFirstRetries = maxRetries, waitsForQueue = true, onLoss, ...call } = options;
  const progress = new Progress(generation);
  for (let retries = 0; ; ) {
    try {
      for await (const response of client.generate({ generation: progress.rest() }, call)) {
        if (response.event.case === "tokenChunk") retries = 0;
        if (progress.isNews(response)) yield response;
      }
      return;
    } catch (thrown) {
      call.signal?.throwIfAborted();
      const error = AppError.from(thrown);
      const isFull = error.kind === "overloaded";
      // A begun image waits for a place as long as its caller does.
      if (!isFull || !progress.hasBegun) retries++;
      const isWorthIt = isFull ? waitsForQueue || progress.hasBegun : error.kind === "not-ready" || error.kind === "aborted";
      if (!isWorthIt || retries > (progress.hasBegun ? maxRetries : maxFirstRetries)) throw error;
      if (progress.hasBegun) onLoss?.(error, progress.tokenCount);
      await sleep(error.retryDelayMs ?? RETRY_MS, undefined, call.signal && { signal: call.signal }).catch(() => call.signal?.throwIfAborted());
    }
  }
}

/** One image as far as it has come. */
interface ImageProgress {
  readonly tokens: number[];
  /** Tokens that were there when the present try began. */
  heldBefore: number;
  isFinished: boolean;
}

/** What has arrived of a generation's images, and what is still to be asked for. */
class Progress {
  readonly #generation: Generation;
  readonly #images = new Map<number, ImageProgress>();
  #started: Started | undefined;

  constructor(generation: GenerationInit) {
    this.#generation = create(GenerationSchema, generation);
    for (const { imageIndex, tokens } of this.#generation.prefixes) this.#image(imageIndex).tokens.push(...tokens);
  }

  get hasBegun(): boolean {
    return this.#started !== undefined;
  }

  get tokenCount(): number {
    return [...this.#images.values()].reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  /** The generation as it has to be asked for now: the same seed, behind the tokens that are here. */
  rest(): Generation {
    if (this.#started === undefined) return this.#generation;
    const rest = clone(GenerationSchema, this.#generation);
    rest.seed = this.#started.settings?.seed ?? 0n;
    // A prefix is less than a whole image; the one token that is drawn again is the same.
    const most = this.#started.imageTokenCount - 1;
    rest.prefixes = Array.from(this.#images, ([imageIndex, image]) => {
      image.heldBefore = image.tokens.length;
      return create(TokenPrefixSchema, { imageIndex, tokens: image.tokens.slice(0, most) });
    });
    return rest;
  }

  /** Whether a response tells what no try before has told; takes out of it what is known. */
  isNews({ event }: GenerateResponse): boolean {
    if (event.case === "queued") return !this.hasBegun;
    if (event.case === "started") return this.#start(event.value);
    if (event.case === "tokenChunk") return this.#take(event.value);
    if (event.case !== "imageFinished") return true;
    const image = this.#image(event.value.imageIndex);
    const isFirst = !image.isFinished;
    image.isFinished = true;
    return isFirst;
  }

  #start(started: Started): boolean {
    const isFirst = this.#started === undefined;
    this.#started ??= started;
    if (started.model?.digest === this.#started.model?.digest) return isFirst;
    throw invariant("the generation cannot go on: another model has answered");
  }

  #take(chunk: TokenChunk): boolean {
    const image = this.#image(chunk.imageIndex);
    const known = Math.min(chunk.tokens.length, Math.max(0, image.heldBefore - chunk.offset));
    if (known > 0 && known === chunk.tokens.length) return false;
    if (known > 0) chunk.tokens.splice(0, known);
    chunk.offset += known;
    image.tokens.push(...chunk.tokens);
    return true;
  }

  #image(index: number): ImageProgress {
    const image = this.#images.get(index) ?? { tokens: [], heldBefore: 0, isFinished: false };
    this.#images.set(index, image);
    return image;
  }
}
