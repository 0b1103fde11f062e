import { invariant } from "#libs/errors/errors.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { resumedGeneration } from "./resumed-generation.js";
import type { GenerationInit } from "./resumed.js";

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
  /** For all tries together; default `STREAM_TIMEOUT_MS`. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Five seconds and more: the time that another replica takes to come up. */
const DEFAULT_MAX_RETRIES = 50;

/**
 * The tokens of a generation, come what may: a refused call is made again when the service says so, and one that was
 * lost on the way goes on at another replica, as `resumedGeneration` does.
 * @throws AppError of the last try.
 */
export async function* tokenStream(
  client: ServiceClient<typeof GeneratorService>, generation: GenerationInit, options: TokenStreamOptions = {},
): AsyncGenerator<TokenEvent, void, undefined> {
  const { maxRetries = DEFAULT_MAX_RETRIES, ...limits } = options;
  const images = new Map(generation.prefixes?.map(({ imageIndex = 0, tokens = [] }) => [imageIndex, [...tokens]]));
  let imageTokenCount = 0;
  for await (const { event } of resumedGeneration(client, generation, { maxRetries, ...limits })) {
    if (event.case === "queued") yield { type: "queued", ...event.value };
    if (event.case === "started") {
      imageTokenCount = event.value.imageTokenCount;
      yield { type: "started", started: event.value };
    }
    if (event.case !== "tokenChunk") continue;
    const { imageIndex, offset, tokens } = event.value;
    const image = images.get(imageIndex) ?? [];
    images.set(imageIndex, image);
    if (offset !== image.length) throw invariant(`token chunk of image ${imageIndex} must start at ${image.length}, got ${offset}`);
    image.push(...tokens);
    yield { type: "tokens", imageIndex, offset, tokens };
    if (image.length === imageTokenCount) yield { type: "finished", imageIndex, tokens: image };
  }
}
