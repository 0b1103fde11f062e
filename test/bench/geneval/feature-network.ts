import { basename } from "node:path";
import { OnnxSession } from "#libs/onnx/session.js";
import { median } from "../table.js";
import { PICTURE_BYTES, SIDE, type Picture } from "./picture.js";
import { copiedShare, frechetDistance, kernelDistance, pairedCosines, type Features } from "./quality.js";

const BATCH = 32;

/** How a model's pictures lie among renders, in the eyes of one network. */
export interface Quality {
  /** The network's file: distances by different ones cannot be compared. */
  readonly network: string;
  /** To renders of the same prompts, one picture a prompt. */
  readonly frechet: number;
  readonly kernel: number;
  /** The same between those renders and others of the same prompts: less cannot be expected. */
  readonly frechetFloor: number;
  readonly kernelFloor: number;
  /**
   * The share of pictures that repeat a training render other than the one asked for: at least as like it as a render whose
   * objects have moved by a few pixels is to itself, in the middle case.
   */
  readonly copied: number;
  /** The same of such moved renders: what pictures that copy nothing reach. */
  readonly copiedFloor: number;
}

/** The sets that quality is measured on. */
export interface QualitySets {
  /** For each prompt in order. */
  readonly made: readonly (readonly Picture[])[];
  readonly renders: readonly Picture[];
  readonly shiftedRenders: readonly Picture[];
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
  async qualityOf({ made, renders, shiftedRenders, otherRenders, training }: QualitySets): Promise<Quality> {
    const [own, real, shifted, other, seen] = [
      await this.featuresOf(made.flat()), await this.featuresOf(renders), await this.featuresOf(shiftedRenders),
      await this.featuresOf(otherRenders), await this.featuresOf(training),
    ];
    // Both distances depend on how many pictures there are, so all sets have one a prompt.
    const images = own.length / real.length;
    const first = real.map((_, place) => own[place * images]!);
    const likeness = median([...pairedCosines(shifted, real)]);
    return {
      network: this.#name, frechet: frechetDistance(first, real), kernel: kernelDistance(first, real),
      frechetFloor: frechetDistance(other, real), kernelFloor: kernelDistance(other, real),
      copied: copiedShare(own, { asked: own.map((_, at) => real[Math.floor(at / images)]!), training: seen, likeness }),
      copiedFloor: copiedShare(shifted, { asked: real, training: seen, likeness }),
    };
  }

  /** Free the network. */
  async close(): Promise<void> {
    await this.#session.close();
  }
}
