import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { AppError, invariant } from "#libs/errors/errors.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { GeneratorService, TokenChunk } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { GenerationSchema, Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";

/** What a consumer of tokens asks for. */
export type GenerationInit = MessageInitShape<typeof GenerationSchema>;

/** What happens on the way from a prompt to tokens. */
export type TokenEvent =
  /** Waiting; may come several times. */
  | { readonly type: "queued"; readonly position: number; readonly estimatedStartMs: number }
  /** At work; once. */
  | { readonly type: "started"; readonly started: Started }
  /** More tokens of one image, in raster order and without gaps, never twice. */
  | { readonly type: "tokens"; readonly imageIndex: number; readonly offset: number; readonly tokens: readonly number[] }
  /** All tokens of one image; once an image. */
  | { readonly type: "finished"; readonly imageIndex: number; readonly tokens: readonly number[] };

/** How a stream is consumed. */
export interface TokenStreamOptions {
  /** How often a lost or refused call is made again. */
  readonly maxRetries?: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_MAX_RETRIES = 5;

/** The wait before a call is made again, where the service names none; doubles with each try. */
const FIRST_RETRY_MS = 200;

/**
 * The tokens of a generation, come what may: a refused call is made again when the service says so, and one that was
 * lost on the way, because its replica died or drained, goes on at another from the tokens that have arrived. They are
 * all of its state, so nothing is drawn twice and the images end as they would have.
 * @throws AppError of the last try.
 */
export async function* tokenStream(
  client: ServiceClient<typeof GeneratorService>, generation: GenerationInit, options: TokenStreamOptions = {},
): AsyncGenerator<TokenEvent, void, undefined> {
  const { maxRetries = DEFAULT_MAX_RETRIES, signal } = options;
  const images = new Images(generation);
  for (let retries = 0; ; retries++) {
    try {
      const call = client.generate({ generation: images.rest() }, signal ? { signal } : {});
      for await (const { event } of call) {
        if (event.case === "queued") yield { type: "queued", ...event.value };
        if (event.case === "started" && images.start(event.value)) yield { type: "started", started: event.value };
        if (event.case === "tokenChunk") yield* images.take(event.value);
        // A service that answers is no reason to give up later.
        if (event.case === "tokenChunk") retries = 0;
      }
      return;
    } catch (thrown) {
      const error = AppError.from(thrown);
      if (!canTryAgain(error) || retries >= maxRetries) throw error;
      await sleep(error.retryDelayMs ?? FIRST_RETRY_MS * 2 ** retries, undefined, signal ? { signal } : {});
    }
  }
}

/** Whether the same call may succeed later, or at another replica. */
function canTryAgain({ kind }: AppError): boolean {
  return kind === "not-ready" || kind === "overloaded" || kind === "aborted";
}

/** What has arrived of a generation's images, and what is still to be asked for. */
class Images {
  readonly #generation: GenerationInit;
  readonly #tokens = new Map<number, number[]>();
  #started: Started | undefined;

  constructor(generation: GenerationInit) {
    this.#generation = generation;
    for (const { imageIndex = 0, tokens = [] } of generation.prefixes ?? []) this.#tokens.set(imageIndex, [...tokens]);
  }

  /** @returns whether this is the first start. */
  start(started: Started): boolean {
    const isFirst = this.#started === undefined;
    this.#started ??= started;
    if (started.model?.digest === this.#started.model?.digest) return isFirst;
    throw invariant("the generation cannot go on: another model has answered");
  }

  /** The generation as it has to be asked for now: the same seed, behind the tokens that are here. */
  rest(): GenerationInit {
    if (this.#started === undefined) return this.#generation;
    const { seed = 0n } = this.#started.settings ?? {};
    // A prefix is less than a whole image; the one token that is drawn again is the same.
    const most = this.#started.imageTokenCount - 1;
    const prefixes = Array.from(this.#tokens, ([imageIndex, tokens]) => ({ imageIndex, tokens: tokens.slice(0, most) }));
    return Object.assign({}, this.#generation, { seed, prefixes });
  }

  /** What is new in a part. */
  *take({ imageIndex, offset, tokens }: TokenChunk): Generator<TokenEvent> {
    const image = this.#tokens.get(imageIndex) ?? [];
    this.#tokens.set(imageIndex, image);
    if (offset > image.length) throw invariant(`tokens are missing before position ${offset} of image ${imageIndex}`);
    const fresh = tokens.slice(image.length - offset);
    if (fresh.length === 0) return;
    yield { type: "tokens", imageIndex, offset: image.length, tokens: fresh };
    image.push(...fresh);
    if (image.length === this.#started?.imageTokenCount) yield { type: "finished", imageIndex, tokens: image };
  }
}
