import { basename } from "node:path";
import { OnnxSession } from "#libs/onnx/session.js";
import { median } from "../table.js";
import { PICTURE_BYTES, SIDE, type Picture } from "./picture.js";
import { frechetDistance, kernelDistance, nearestCosines, type Features } from "./quality.js";

const BATCH = 32;

/** How a model's pictures lie among renders, in the eyes of one network. */
export interface Quality {
  /** The network's file: distances by different ones cannot be compared. */
  readonly network: string;
  /** To renders of the same prompts. */
  readonly frechet: number;
  readonly kernel: number;
  /** The same between those renders and renders of the other suite's prompts: nothing can be expected below. */
  readonly frechetFloor: number;
  readonly kernelFloor: number;
  /** The middle picture's cosine with the training render it is most like, and the middle held-out render's. */
  readonly nearestTraining: number;
  readonly nearestTrainingFloor: number;
}

/** The sets that quality is measured on. */
export interface QualitySets {
  readonly made: readonly Picture[];
  readonly renders: readonly Picture[];
  readonly otherRenders: readonly Picture[];
  readonly training: readonly Picture[];
}

/** A network that sees pictures as vectors: `images` uint8 [B, 96, 96, 3] to `features` float32 [B, size]. */
export class FeatureNetwork {
  readonly #session: OnnxSession;
  readonly #name: string;

  /** The caller closes it. */
  static async open(file: string): Promise<FeatureNetwork> {
    return new FeatureNetwork(await OnnxSession.open(file, { threads: 1, provider: "cpu" }), basename(file, ".onnx"));
  }

  private constructor(session: OnnxSession, name: string) {
    this.#session = session;
    this.#name = name;
  }

  /** One row a picture. */
  async featuresOf(pictures: readonly Picture[]): Promise<Features> {
    const rows: Float32Array[] = [];
    for (let first = 0; first < pictures.length; first += BATCH) {
      const part = pictures.slice(first, first + BATCH);
      const data = new Uint8Array(part.length * PICTURE_BYTES);
      for (const [index, picture] of part.entries()) data.set(picture, index * PICTURE_BYTES);
      const { features } = await this.#session.run({ images: { type: "uint8", dims: [part.length, SIDE, SIDE, 3], data } });
      const size = features!.dims[1]!;
      for (let row = 0; row < part.length; row++) rows.push((features!.data as Float32Array).slice(row * size, (row + 1) * size));
    }
    return rows;
  }

  /** All distances of a model's pictures. */
  async qualityOf({ made, renders, otherRenders, training }: QualitySets): Promise<Quality> {
    const [own, real, other, seen] = [
      await this.featuresOf(made), await this.featuresOf(renders), await this.featuresOf(otherRenders), await this.featuresOf(training),
    ];
    return {
      network: this.#name, frechet: frechetDistance(own, real), kernel: kernelDistance(own, real),
      frechetFloor: frechetDistance(other, real), kernelFloor: kernelDistance(other, real),
      nearestTraining: median([...nearestCosines(own, seen)]), nearestTrainingFloor: median([...nearestCosines(real, seen)]),
    };
  }

  /** Free the network. */
  async close(): Promise<void> {
    await this.#session.close();
  }
}
