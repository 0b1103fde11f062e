import type { TokenBundle } from "#libs/bundle/bundle.js";
import { resumedGeneration } from "#libs/clients/resumed-generation.js";
import { aborted, invariant } from "#libs/errors/errors.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type {
  GenerateResponse, GeneratorService, ImageTokensFinished, TokenChunk,
} from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { log } from "#libs/telemetry/log.js";
import { bindGenerator } from "#libs/telemetry/spans.js";
import { Delivery, type ImageCall, type ImageResponse } from "./delivery.js";
import type { Detokenizer } from "./detokenizer.js";
import { EventRace } from "./event-race.js";
import { modelTexts, promptTexts, settingsTexts } from "./metadata.js";
import { drawPicture, type Picture, type PictureOptions } from "./picture.js";
import { PreviewLine } from "./preview-line.js";
import { previewTokens, tokenDigest, TokenGrid } from "./token-grid.js";
import { checkStarted, type ValidEncoding, type ValidGenerateImageRequest } from "./validate.js";

/** What the service works with; all of it stays the caller's to close. */
export interface DecoderParts {
  readonly bundle: TokenBundle;
  readonly detokenizer: Pick<Detokenizer, "detokenize">;
  readonly generator: Pick<ServiceClient<typeof GeneratorService>, "generate">;
}

/** One image on its way. */
interface Image {
  readonly index: number;
  readonly grid: TokenGrid;
  /** Rows in the last preview that was offered. */
  previewRows: number;
  previewMs: number;
  isSent: boolean;
}

type Drawn =
  | { readonly type: "preview"; readonly image: Image; readonly rowsDone: number; readonly picture: Picture }
  | { readonly type: "image"; readonly image: Image; readonly finished: ImageTokensFinished; readonly picture: Picture };

/**
 * How often the generator is asked again. A call that has not begun is its caller's to repeat, save that it may have met
 * replicas that come up or go down, again and again; a begun one is worth the time that another replica takes to come up.
 */
export const PATIENCE = { maxRetries: 60, maxFirstRetries: 20, waitsForQueue: false } as const;

/** How previews are written: small, and soon. */
export const PREVIEW_ENCODING: ValidEncoding = { format: ImageFormat.JPEG, quality: 80, includePrompt: false };

/**
 * One GenerateImage call: tokens come from the generator; progress, previews and images go out. Where a replica of the
 * generator is lost, another goes on, and the client does not notice.
 *
 * Three things are under way at once: the generator's next event, one preview, and the images whose tokens are complete.
 * Drawing never holds up tokens; a slow client holds up all of it and loses nothing but previews.
 */
export class ImageStream {
  readonly #parts: DecoderParts;
  readonly #request: ValidGenerateImageRequest;
  readonly #call: ImageCall;
  readonly #images: readonly Image[];
  readonly #previews = new PreviewLine<() => Promise<Drawn>>();
  readonly #race = new EventRace<GenerateResponse, Drawn>();
  readonly #delivery: Delivery;
  #signal: AbortSignal;
  #started: Started | undefined;

  constructor(parts: DecoderParts, request: ValidGenerateImageRequest, call: ImageCall) {
    this.#parts = parts;
    this.#request = request;
    this.#call = call;
    this.#signal = call.signal;
    this.#delivery = new Delivery(call);
    this.#images = Array.from({ length: request.imageCount }, (_, index) => (
      { index, grid: new TokenGrid(parts.bundle.manifest.image), previewRows: 0, previewMs: 0, isSent: false }
    ));
  }

  /**
   * Everything that the call answers. When the iteration ends, for whatever reason, the generator's stream is cancelled
   * and no drawing is left. Iterate once.
   * @throws the generator's errors as they are; "mismatch" if it has loaded another bundle, "aborted" if it ends early,
   *   "internal" if it breaks its promises.
   */
  async *responses(): AsyncGenerator<ImageResponse> {
    yield* this.#race.run(this.#call.signal, (signal) => this.#generate(signal), {
      event: (event) => this.#handleEvent(event),
      work: (drawn) => this.#handleDrawn(drawn),
    });
    const missing = this.#images.find((image) => !image.isSent);
    if (missing !== undefined) throw aborted(`the generator ended before image ${missing.index} was complete`);
  }

  #generate(signal: AbortSignal): AsyncIterator<GenerateResponse, unknown> {
    const { deadline, parent } = this.#call;
    this.#signal = signal;
    return bindGenerator(parent, resumedGeneration(this.#parts.generator, this.#request.generation, {
      ...PATIENCE, deadline, signal,
      onLoss: ({ kind }, tokens) => log.warn("the generator was lost; going on at another", { kind, tokens }),
    }));
  }

  *#handleEvent({ event }: GenerateResponse): Generator<ImageResponse> {
    if (event.case === "queued") yield { event };
    else if (event.case === "started") {
      checkStarted(event.value, this.#parts.bundle);
      this.#started = event.value;
      this.#continueImages();
      yield { event };
    } else if (event.case === "tokenChunk") yield this.#takeTokens(event.value);
    else if (event.case === "imageFinished") this.#drawImage(event.value);
    else throw invariant(`the generator sent ${event.case ?? "an unknown event"}, which has no place in discrete tokens`);
  }

  *#handleDrawn(drawn: Drawn): Generator<ImageResponse> {
    const { image, picture } = drawn;
    const { index: imageIndex, grid, previewMs } = image;
    const { detokenizeMs, encodeMs } = picture;
    if (drawn.type === "preview") {
      image.previewMs += detokenizeMs + encodeMs;
      this.#previews.drawn();
      if (!image.isSent) yield* this.#delivery.preview(picture, { imageIndex, rowsDone: drawn.rowsDone });
      this.#drawPreview();
    } else {
      image.isSent = true;
      yield* this.#delivery.image(picture, { imageIndex, rowsDone: this.#parts.bundle.manifest.image.gridHeight });
      const tokens = this.#request.includeTokens ? [...grid.tokens] : [];
      const end = { imageIndex, tokenDigest: tokenDigest(grid.tokens), tokens };
      yield this.#delivery.finished(end, drawn.finished, { detokenizeMs, encodeMs, previewMs });
    }
  }

  #imageAt(index: number): Image {
    const image = this.#images[index];
    if (this.#started === undefined) throw invariant("the generator sent tokens before it started");
    if (image === undefined) throw invariant(`the generator sent image ${index} of ${this.#images.length}`);
    return image;
  }

  /** Give each image its prefix: the generator has accepted them, and sends what follows. */
  #continueImages(): void {
    for (const { imageIndex, tokens } of this.#request.generation.prefixes) {
      if (tokens.length > 0) this.#imageAt(imageIndex).grid.append(0, tokens);
    }
  }

  #takeTokens({ imageIndex, offset, tokens }: TokenChunk): ImageResponse {
    const image = this.#imageAt(imageIndex);
    const { grid } = image;
    grid.append(offset, tokens);
    this.#offerPreview(image);
    const { gridHeight, gridWidth } = this.#parts.bundle.manifest.image;
    const shown = this.#request.includeTokens ? tokens : [];
    const value = { imageIndex, tokensDone: grid.tokens.length, tokensTotal: gridHeight * gridWidth, tokens: shown };
    return { event: { case: "progress", value } };
  }

  #offerPreview(image: Image): void {
    const { grid, index } = image;
    const { previewIntervalRows: interval } = this.#request;
    if (interval === 0) return;
    const rowsDone = grid.rowsDone;
    if (grid.isComplete) this.#previews.drop(index);
    else if (Math.floor(rowsDone / interval) > Math.floor(image.previewRows / interval)) {
      image.previewRows = rowsDone;
      const tokens = previewTokens(grid.tokens, this.#parts.bundle.manifest.image);
      this.#previews.offer(index, async () => {
        const picture = await this.#draw({ imageIndex: index, preview: true, tokens, encoding: PREVIEW_ENCODING });
        return { type: "preview", image, rowsDone, picture };
      });
      this.#drawPreview();
    }
  }

  #prefixLength(index: number): number {
    return this.#request.generation.prefixes.find(({ imageIndex }) => imageIndex === index)?.tokens.length ?? 0;
  }

  #drawPreview(): void {
    const draw = this.#previews.take();
    if (draw !== undefined) this.#race.add(draw());
  }

  #drawImage(finished: ImageTokensFinished): void {
    const image = this.#imageAt(finished.imageIndex);
    const { grid, index } = image;
    if (!grid.isComplete) throw invariant(`the generator finished image ${index} at ${grid.tokens.length} tokens`);
    const { bundle } = this.#parts;
    const { encoding, generation } = this.#request;
    const settings = this.#started?.settings;
    const texts = [
      ...modelTexts(bundle), ...(settings ? settingsTexts(settings, index, this.#prefixLength(index)) : []),
      ...(encoding.includePrompt ? promptTexts(generation) : []),
    ];
    const drawing = this.#draw({ imageIndex: index, preview: false, tokens: grid.tokens, encoding, texts });
    this.#race.add(drawing.then((picture) => ({ type: "image", image, finished, picture })));
  }

  #draw(options: Pick<PictureOptions, "imageIndex" | "preview" | "tokens" | "encoding" | "texts">): Promise<Picture> {
    const { detokenizer } = this.#parts;
    return drawPicture({ ...options, detokenizer, parent: this.#call.parent, signal: this.#signal });
  }
}
