import { InferenceSession, Tensor } from "onnxruntime-node";
import { openBundle } from "#libs/bundle/bundle.js";
import type { Manifest } from "#libs/bundle/manifest.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";

const MASKED = -1e9;

/** One run: S new tokens in each of B rows. */
export interface Window {
  /** `[B][S]`. */
  readonly ids: readonly (readonly number[])[];
  /** Position of each row's first new token. */
  readonly starts: readonly number[];
  readonly logitsFrom?: number;
}

/** Runs a bundle's transformer graph with a cache of fixed length, the way an engine would, but without any care for speed. */
export class TransformerRunner {
  readonly manifest: Manifest;
  readonly #session: InferenceSession;
  /** Per layer `[B, H, D, T]` and `[B, H, T, D]`; unwritten places hold junk that the past's bias must hide. */
  #keys: Float32Array[] = [];
  #values: Float32Array[] = [];
  /** Written positions of each row. */
  #lengths: number[] = [];
  #capacity = 0;

  private constructor(manifest: Manifest, session: InferenceSession) {
    this.manifest = manifest;
    this.#session = session;
  }

  static async open(folder: string): Promise<TransformerRunner> {
    const bundle = await openBundle(folder);
    const session = await createInferenceSession(bundle.path(bundle.manifest.transformer.file));
    return new TransformerRunner(bundle.manifest, session);
  }

  /** Forget everything; `capacity` past positions for each of `rows` rows from here on. */
  reset(rows: number, capacity: number): void {
    const { layers, keyValueHeads, headSize } = this.manifest.transformer;
    const junk = (): Float32Array => new Float32Array(rows * keyValueHeads * headSize * capacity).fill(77);
    this.#keys = Array.from({ length: layers }, junk);
    this.#values = Array.from({ length: layers }, junk);
    this.#lengths = Array.from({ length: rows }, () => 0);
    this.#capacity = capacity;
  }

  /** Forget one row. */
  forget(row: number): void {
    this.#lengths[row] = 0;
  }

  /** Run and remember the new positions as far as there is room. @returns logits `[B][S - logitsFrom][V]`, flat. */
  async run(window: Window): Promise<Float32Array> {
    const { logits, new_key: newKey, new_value: newValue } = await this.#session.run(this.#feeds(window));
    if (this.#capacity > 0) this.#remember(window.ids[0].length, newKey.data as Float32Array, newValue.data as Float32Array);
    return logits.data as Float32Array;
  }

  close(): Promise<void> {
    return this.#session.release();
  }

  #feeds({ ids, starts, logitsFrom = 0 }: Window): Record<string, Tensor> {
    const { layers, keyValueHeads, headSize } = this.manifest.transformer;
    const [rows, size, capacity] = [ids.length, ids[0].length, this.#capacity];
    const positions = starts.flatMap((start) => ids[0].map((_, index) => BigInt(start + index)));
    const pastBias = this.#lengths.flatMap((length) => Array.from({ length: capacity }, (_, t) => (t < length ? 0 : MASKED)));
    const windowBias = Array.from({ length: size * size }, (_, i) => (i % size <= Math.floor(i / size) ? 0 : MASKED));
    const feeds: Record<string, Tensor> = {
      ids: new Tensor("int64", BigInt64Array.from(ids.flat(), BigInt), [rows, size]),
      positions: new Tensor("int64", BigInt64Array.from(positions), [rows, size]),
      past_bias: new Tensor("float32", Float32Array.from(pastBias), [rows, 1, 1, capacity]),
      window_bias: new Tensor("float32", Float32Array.from(windowBias), [size, size]),
      logits_from: new Tensor("int64", BigInt64Array.of(BigInt(logitsFrom)), [1]),
    };
    for (let layer = 0; layer < layers; layer++) {
      feeds[`past_key.${layer}`] = new Tensor("float32", this.#keys[layer], [rows, keyValueHeads, headSize, capacity]);
      feeds[`past_value.${layer}`] = new Tensor("float32", this.#values[layer], [rows, keyValueHeads, capacity, headSize]);
    }
    return feeds;
  }

  #remember(size: number, newKey: Float32Array, newValue: Float32Array): void {
    const { layers, keyValueHeads, headSize } = this.manifest.transformer;
    const rows = this.#lengths.length;
    for (let layer = 0; layer < layers; layer++) {
      for (let plane = 0; plane < rows * keyValueHeads; plane++) {
        const length = this.#lengths[Math.floor(plane / keyValueHeads)];
        for (let d = 0; d < headSize; d++) {
          const row = (layer * rows * keyValueHeads + plane) * headSize + d;
          for (let s = 0; s < size; s++) {
            this.#keys[layer][(plane * headSize + d) * this.#capacity + length + s] = newKey[row * size + s];
            this.#values[layer][(plane * this.#capacity + length + s) * headSize + d] =
              newValue[((layer * rows * keyValueHeads + plane) * size + s) * headSize + d];
          }
        }
      }
    }
    this.#lengths = this.#lengths.map((length) => length + size);
  }
}
