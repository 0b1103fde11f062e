import type { Context } from "@opentelemetry/api";
import { recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, SPANS } from "#libs/telemetry/names.js";
import { inSpan } from "#libs/telemetry/spans.js";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Detokenizer } from "./detokenizer.js";
import { encodeImage } from "./encode.js";
import type { PngText } from "./png-text.js";
import type { ValidEncoding } from "./validate.js";

/** One image as a file, and what it cost in milliseconds; waiting for the detokenizer counts as detokenizing. */
export interface Picture {
  readonly format: ImageFormat;
  readonly height: number;
  readonly width: number;
  readonly bytes: Uint8Array;
  readonly detokenizeMs: number;
  readonly encodeMs: number;
}

/** What is drawn, and how. */
export interface PictureOptions {
  readonly detokenizer: Pick<Detokenizer, "detokenize">;
  readonly imageIndex: number;
  readonly preview: boolean;
  /** Of the whole image; stay the caller's. */
  readonly tokens: ArrayLike<number>;
  readonly encoding: ValidEncoding;
  readonly texts?: readonly PngText[];
  /** Parent of the spans. */
  readonly parent: Context;
  readonly signal: AbortSignal;
}

/** Turn tokens into a file, with a span and a duration for each half. @throws the signal's reason when it aborts first. */
export async function drawPicture(options: PictureOptions): Promise<Picture> {
  const { detokenizer, imageIndex, preview, tokens, encoding, texts, parent, signal } = options;
  const attributes = { [ATTRIBUTES.imageIndex]: imageIndex, [ATTRIBUTES.preview]: preview };
  const begin = performance.now();
  const pixels = await inSpan(SPANS.detokenize, { parent, attributes }, () => detokenizer.detokenize(tokens, { signal }));
  const middle = performance.now();
  const bytes = await inSpan(SPANS.encode, { parent, attributes }, async (span) => {
    const file = await encodeImage(pixels, encoding, texts);
    span.set({ [ATTRIBUTES.imageFormat]: ImageFormat[encoding.format], [ATTRIBUTES.imageBytes]: file.length });
    return file;
  });
  signal.throwIfAborted();
  const detokenizeMs = middle - begin;
  const encodeMs = performance.now() - middle;
  recordDuration(METRICS.detokenizeTime, detokenizeMs, { [ATTRIBUTES.preview]: preview });
  recordDuration(METRICS.encodeTime, encodeMs, { [ATTRIBUTES.preview]: preview });
  return { format: encoding.format, height: pixels.height, width: pixels.width, bytes, detokenizeMs, encodeMs };
}
