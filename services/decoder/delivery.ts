import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Context } from "@opentelemetry/api";
import type { GenerateImageResponseSchema, ImageFinishedSchema } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { ImageTokensFinished } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, SPANS } from "#libs/telemetry/names.js";
import { openSpan } from "#libs/telemetry/spans.js";
import { imageChunks, type ChunkPlace } from "./chunks.js";
import type { Picture } from "./picture.js";

/** An answer to GenerateImage. */
export type ImageResponse = MessageInitShape<typeof GenerateImageResponseSchema>;

/** The call that a stream of images belongs to. */
export interface ImageCall {
  readonly signal: AbortSignal;
  readonly deadline: number;
  /** Parent of all spans: `yield` loses the active context. */
  readonly parent: Context;
  /** As in `performance.now()`. */
  readonly arrivedAt: number;
}

/** What an image's end says beside its times. */
export type ImageEnd = Pick<MessageInitShape<typeof ImageFinishedSchema>, "imageIndex" | "tokenDigest" | "tokens">;

/** Sends the pictures of one call in chunks, and records when they leave. */
export class Delivery {
  readonly #call: Pick<ImageCall, "parent" | "arrivedAt">;
  /** Whether a preview of any image has been sent. */
  #hasPreview = false;

  constructor(call: Pick<ImageCall, "parent" | "arrivedAt">) {
    this.#call = call;
  }

  /** A picture of an image that is not complete. */
  *preview(picture: Picture, place: Omit<ChunkPlace, "preview">): Generator<ImageResponse> {
    if (!this.#hasPreview) recordDuration(METRICS.timeToFirstPreview, performance.now() - this.#call.arrivedAt);
    this.#hasPreview = true;
    yield* chunksOf(picture, { ...place, preview: true });
  }

  /** A complete image. The span lasts as long as its consumer takes it. */
  *image(picture: Picture, place: Omit<ChunkPlace, "preview">): Generator<ImageResponse> {
    const attributes = { [ATTRIBUTES.imageIndex]: place.imageIndex, [ATTRIBUTES.imageBytes]: picture.bytes.length };
    const span = openSpan(SPANS.transfer, { parent: this.#call.parent, attributes });
    try {
      yield* chunksOf(picture, { ...place, preview: false });
    } finally {
      span.end();
    }
  }

  /** The last event of an image. @param own times of the decoder, in milliseconds. */
  finished(
    end: ImageEnd, { timings }: ImageTokensFinished,
    own: { readonly detokenizeMs: number; readonly encodeMs: number; readonly previewMs: number },
  ): ImageResponse {
    const totalMs = performance.now() - this.#call.arrivedAt;
    recordDuration(METRICS.timeToImage, totalMs);
    const value = { ...end, timings: { ...(timings && { generation: timings }), ...own, totalMs } };
    return { event: { case: "imageFinished", value } };
  }
}

function* chunksOf(picture: Picture, place: ChunkPlace): Generator<ImageResponse> {
  for (const value of imageChunks(picture, place)) yield { event: { case: "imageChunk", value } };
}
