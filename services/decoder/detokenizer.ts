import { basename } from "node:path";
import type { ImageSection } from "#libs/bundle/manifest.js";
import { type AppError, invariant, mismatch } from "#libs/errors/errors.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";
import { OnnxSession } from "#libs/onnx/session.js";

/** One picture as plain bytes. */
export interface Pixels {
  readonly height: number;
  readonly width: number;
  /** [height, width, 3], red first. */
  readonly data: Uint8Array;
}

/** How a detokenizer is opened. */
export interface DetokenizerOptions extends SessionOptions {
  readonly graphFile: string;
  readonly image: ImageSection;
}

/**
 * Turns the tokens of whole images into pixels, in a thread of its own. All requests share it: images are taken one at
 * a time in the order in which they were asked for, and one that still waits can be given up.
 */
export class Detokenizer {
  readonly #session: OnnxSession;
  readonly #image: ImageSection;

  /**
   * Load the graph and run it once. The caller closes the detokenizer.
   * @throws AppError "mismatch" if the graph is not the one that the bundle describes; else as `OnnxSession.open`.
   */
  static async open(options: DetokenizerOptions): Promise<Detokenizer> {
    const { graphFile, image, ...session } = options;
    const detokenizer = new Detokenizer(await OnnxSession.open(graphFile, session), image);
    try {
      detokenizer.#checkGraph(basename(graphFile));
      await detokenizer.detokenize(new Uint32Array(image.gridHeight * image.gridWidth));
      return detokenizer;
    } catch (error) {
      await detokenizer.close();
      throw error;
    }
  }

  private constructor(session: OnnxSession, image: ImageSection) {
    this.#session = session;
    this.#image = image;
  }

  /** Settles once the thread has ended: undefined after `close()`, the error if it crashed. Never rejects. */
  get ended(): Promise<AppError | undefined> {
    return this.#session.ended;
  }

  /**
   * The pixels of one image.
   * @param tokens raster order, gridHeight * gridWidth of them, each inside the codebook; stay the caller's.
   * @throws the signal's reason when it aborts first.
   */
  async detokenize(
    tokens: ArrayLike<number>, { signal }: { readonly signal?: AbortSignal } = {},
  ): Promise<Pixels> {
    const { gridHeight, gridWidth, height, width } = this.#image;
    if (tokens.length !== gridHeight * gridWidth) {
      throw invariant(`an image has ${gridHeight * gridWidth} tokens, got ${tokens.length}`);
    }
    const feeds = {
      tokens: { type: "int64", dims: [1, gridHeight, gridWidth], data: BigInt64Array.from(tokens, BigInt) },
    } as const;
    const { pixels } = await this.#session.run(feeds, ["pixels"], { transferFeeds: true, ...(signal && { signal }) });
    if (pixels.dims.join() !== [1, 3, height, width].join()) {
      throw mismatch(`the decoder graph gives pixels [${pixels.dims.join(", ")}], model.json says [1, 3, ${height}, ${width}]`);
    }
    return { height, width, data: toBytes(pixels.data as Float32Array) };
  }

  /** End the thread; pending images reject with "not-ready". May be called again. */
  close(): Promise<void> {
    return this.#session.close();
  }

  #checkGraph(file: string): void {
    const { inputs, outputs } = this.#session;
    const isThere = (list: typeof inputs, name: string, type: string): boolean =>
      list.some((value) => value.name === name && value.isTensor && value.type === type);
    if (!isThere(inputs, "tokens", "int64") || inputs.length !== 1 || !isThere(outputs, "pixels", "float32")) {
      throw mismatch(`${file} must take \`tokens\` int64 and give \`pixels\` float32`);
    }
  }
}

/**
 * Colour planes as interleaved bytes: -1 .. 1 becomes 0 .. 255, rounded half up; what lies outside is clamped.
 * @param planes [3, height, width].
 * @returns [height, width, 3].
 */
export function toBytes(planes: Float32Array): Uint8Array {
  const size = planes.length / 3;
  const bytes = new Uint8Array(planes.length);
  for (let pixel = 0; pixel < size; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = Math.max(-1, Math.min(1, planes[channel * size + pixel]));
      bytes[pixel * 3 + channel] = Math.floor((255 * (value + 1)) / 2 + 0.5);
    }
  }
  return bytes;
}
