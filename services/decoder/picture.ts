import type { Context } from "@opentelemetry/api";
import { recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, SPANS } from "#libs/telemetry/names.js";
import { inSpan } from "#libs/telemetry/spans.js";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Detokenizer, Pixels } from "./detokenizer.js";
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

/** What is drawn from whatever gives pixels, and how. */
export interface DrawingOptions {
  readonly imageIndex: number;
  readonly preview: boolean;
  readonly detokenize: (options: { readonly signal: AbortSignal }) => Promise<Pixels>;
  readonly encoding: ValidEncoding;
  readonly texts?: readonly PngText[];
  /** Parent of the spans. */
  readonly parent: Context;
  readonly signal: AbortSignal;
}

/** What is drawn from tokens, and how. */
export interface PictureOptions extends Omit<DrawingOptions, "detokenize"> {
  readonly detokenizer: Pick<Detokenizer, "detokenize">;
  /** Of the whole image; stay the caller's. */
  readonly tokens: ArrayLike<number>;
}

/** Turn tokens into a file. @throws as `draw`. */
export function drawPicture({ detokenizer, tokens, ...options }: PictureOptions): Promise<Picture> {
  return draw({ ...options, detokenize: (own) => detokenizer.detokenize(tokens, own) });
}

/** Make a file of pixels to come, with a span and a duration for each half. @throws the signal's reason when it aborts first. */
export async function draw(options: DrawingOptions): Promise<Picture> {
  const { detokenize, imageIndex, preview, encoding, texts, parent, signal } = options;
  const attributes = { [ATTRIBUTES.imageIndex]: imageIndex, [ATTRIBUTES.preview]: preview };
  const begin = performance.now();
  const pixels = await inSpan(SPANS.detokenize, { parent, attributes }, () => detokenize({ signal }));
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
