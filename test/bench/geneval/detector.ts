import { fileURLToPath } from "node:url";
import { OnnxSession } from "#libs/onnx/session.js";
import type { Vocabulary } from "#libs/training/vocabulary.js";
import { PICTURE_BYTES, SIDE, type Picture } from "./picture.js";

/** Left, top, right, bottom in pixels of a 96-pixel picture. */
export type Box = readonly [left: number, top: number, right: number, bottom: number];

/** One object that the judge sees. */
export interface Detection {
  /** The vocabulary's noun; undefined for an object the judge cannot name. */
  readonly object: string | undefined;
  readonly colour: string;
  readonly box: Box;
  /** Objectness times class probability. */
  readonly confidence: number;
}

/** The folder with the judge's graph and its icons. */
export const JUDGE_FOLDER = fileURLToPath(new URL("../../../../test/bench/judge/", import.meta.url));

/** Both fixed before any generator was scored. */
const MIN_OBJECTNESS = 0.5;
const MIN_CLASS_PROBABILITY = 0.5;
/** Boxes that share more than this of the smaller one are the same object. */
const MAX_OVERLAP = 0.5;
const BATCH = 32;

/** The benchmark's judge: a small detector of the vocabulary's objects and colours. */
export class Detector {
  readonly #session: OnnxSession;
  readonly #objects: readonly string[];
  readonly #colours: readonly string[];

  /** Load the committed graph. The caller closes it. */
  static async open(vocabulary: Vocabulary, graphFile = `${JUDGE_FOLDER}judge.onnx`): Promise<Detector> {
    return new Detector(await OnnxSession.open(graphFile, { threads: 1, provider: "cpu" }), vocabulary);
  }

  private constructor(session: OnnxSession, vocabulary: Vocabulary) {
    this.#session = session;
    this.#objects = vocabulary.objects.map(({ noun }) => noun);
    this.#colours = vocabulary.colours.map(({ name }) => name);
  }

  /** What each picture shows, surest first. */
  async detect(pictures: readonly Picture[]): Promise<Detection[][]> {
    const found: Detection[][] = [];
    for (let first = 0; first < pictures.length; first += BATCH) {
      found.push(...await this.#detectBatch(pictures.slice(first, first + BATCH)));
    }
    return found;
  }

  /** Free the graph. */
  async close(): Promise<void> {
    await this.#session.close();
  }

  async #detectBatch(pictures: readonly Picture[]): Promise<Detection[][]> {
    const images = new Uint8Array(pictures.length * PICTURE_BYTES);
    for (const [index, picture] of pictures.entries()) images.set(picture, index * PICTURE_BYTES);
    const outputs = await this.#session.run({ images: { type: "uint8", dims: [pictures.length, SIDE, SIDE, 3], data: images } });
    const [objectness, box, kinds, colours] = (["objectness", "box", "class", "colour"] as const)
      .map((name) => outputs[name]!.data as Float32Array);
    const cells = objectness!.length / pictures.length;
    return pictures.map((_, picture) => {
      const detections: Detection[] = [];
      for (let cell = picture * cells; cell < (picture + 1) * cells; cell++) {
        if (objectness![cell]! < MIN_OBJECTNESS) continue;
        const [kind, probability] = likeliest(kinds!, cell, this.#objects.length);
        detections.push({
          object: probability < MIN_CLASS_PROBABILITY ? undefined : this.#objects[kind],
          colour: this.#colours[likeliest(colours!, cell, this.#colours.length)[0]]!,
          box: Array.from(box!.subarray(cell * 4, cell * 4 + 4)) as unknown as Box,
          confidence: objectness![cell]! * probability,
        });
      }
      return withoutRepeats(detections);
    });
  }
}

/** Index and value of the largest of the `size` values of row `row`. */
function likeliest(values: Float32Array, row: number, size: number): readonly [number, number] {
  const part = values.subarray(row * size, (row + 1) * size);
  const largest = part.reduce((a, b) => Math.max(a, b), -Infinity);
  return [part.indexOf(largest), largest];
}

/** One detection an object, the surest one, surest first. */
export function withoutRepeats(detections: readonly Detection[]): Detection[] {
  const kept: Detection[] = [];
  for (const detection of detections.toSorted((a, b) => b.confidence - a.confidence)) {
    if (kept.every(({ box }) => overlap(box, detection.box) <= MAX_OVERLAP)) kept.push(detection);
  }
  return kept;
}

/** Shared area over the smaller area. */
function overlap(a: Box, b: Box): number {
  const area = ([left, top, right, bottom]: Box) => Math.max(0, right - left) * Math.max(0, bottom - top);
  const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return shared / Math.max(1, Math.min(area(a), area(b)));
}
