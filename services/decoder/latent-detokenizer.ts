import { basename } from "node:path";
import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { type AppError, invariant, mismatch } from "#libs/errors/errors.js";
import { enlarged, latentSize, type Latent } from "#libs/flow/latent.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";
import { OnnxSession } from "#libs/onnx/session.js";
import { toBytes, type Pixels } from "./detokenizer.js";

/** Turns latents of the flow into pixels, in a thread of its own; images are taken one at a time in order of arrival. */
export class LatentDetokenizer {
  readonly #session: OnnxSession;
  readonly #manifest: StageManifest;

  /**
   * Load the graph and run it once. The caller closes the detokenizer.
   * @throws AppError "mismatch" if the graph is not the one that the bundle describes; else as `OnnxSession.open`.
   */
  static async open(graphFile: string, manifest: StageManifest, options: SessionOptions): Promise<LatentDetokenizer> {
    const session = await OnnxSession.open(graphFile, options);
    const detokenizer = new LatentDetokenizer(session, manifest);
    try {
      if (session.inputs.length !== 1 || session.inputs[0].name !== "latent") throw mismatch(`${basename(graphFile)} must take \`latent\``);
      const { latent: { channels }, image: { gridHeight: height, gridWidth: width } } = manifest;
      await detokenizer.detokenize({ channels, height, width, values: new Float32Array(channels * height * width) });
      return detokenizer;
    } catch (error) {
      await detokenizer.close();
      throw error;
    }
  }

  private constructor(session: OnnxSession, manifest: StageManifest) {
    this.#session = session;
    this.#manifest = manifest;
  }

  /** Settles once the thread has ended: undefined after `close()`, the error if it crashed. Never rejects. */
  get ended(): Promise<AppError | undefined> {
    return this.#session.ended;
  }

  /**
   * The pixels of one image.
   * @param latent of the flow, of any stage's size: a smaller one is enlarged by nearest neighbours. Stays the caller's.
   * @throws the signal's reason when it aborts first.
   */
  async detokenize(latent: Latent, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Pixels> {
    const { image: { height, width, gridHeight, gridWidth }, latent: { channels, mean, scale } } = this.#manifest;
    let whole = latent;
    while (whole.height < gridHeight) whole = enlarged(whole);
    if (latentSize(whole) !== channels * gridHeight * gridWidth) throw invariant(`a latent of ${latent.height} x ${latent.width} is no stage's`);
    const cells = gridHeight * gridWidth;
    const data = whole.values.map((value, i) => value * scale[Math.floor(i / cells)] + mean[Math.floor(i / cells)]);
    const feed = { type: "float32", dims: [1, channels, gridHeight, gridWidth], data } as const;
    const { pixels } = await this.#session.run({ latent: feed }, ["pixels"], { transferFeeds: true, ...(signal && { signal }) });
    if (pixels.dims.join() !== [1, 3, height, width].join()) {
      throw mismatch(`the decoder graph gives pixels [${pixels.dims.join(", ")}], model.json says [1, 3, ${height}, ${width}]`);
    }
    return { height, width, data: toBytes(pixels.data as Float32Array) };
  }

  /** End the thread; pending images reject with "not-ready". May be called again. */
  close(): Promise<void> {
    return this.#session.close();
  }
}
