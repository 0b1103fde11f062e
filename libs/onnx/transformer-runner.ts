import { type InferenceSession, Tensor } from "onnxruntime-node";
import type { TransformerSection } from "#libs/bundle/manifest.js";
import { createInferenceSession, type SessionOptions } from "./create-session.js";

/** Added to the score of a position that must not be seen. */
const MASKED = -1e9;

/** One run: S new tokens in each of some neighbouring rows. */
export interface Window {
  /** `[B][S]` ids in the transformer's vocabulary. */
  readonly ids: readonly (readonly number[])[];
  /** The first of the B rows; default 0. */
  readonly firstRow?: number;
  /** Position of each row's first new token; left out: it follows what the row remembers. */
  readonly starts?: readonly number[];
  /** First of the S positions whose logits are wanted; default 0. */
  readonly logitsFrom?: number;
}

/**
 * Runs a transformer graph by itself, window after window, on the calling thread: for inspection, parity and benchmarks.
 * It keeps the contract of `TransformerSection` in the plainest way; serving is the engine's business.
 */
export class TransformerRunner {
  readonly section: TransformerSection;
  readonly #session: InferenceSession;
  /** Per layer `[rows, H, T, D]`; places that were not written are hidden by the past's bias. */
  #keys: readonly Float32Array[] = [];
  #values: readonly Float32Array[] = [];
  /** Remembered positions of each row. */
  #lengths = new Int32Array(0);
  #room = 0;

  /** Load the graph at `path`; the caller closes the runner. @throws AppError as `createInferenceSession` does. */
  static async open(path: string, section: TransformerSection, options: SessionOptions = {}): Promise<TransformerRunner> {
    return new TransformerRunner(section, await createInferenceSession(path, options));
  }

  private constructor(section: TransformerSection, session: InferenceSession) {
    this.section = section;
    this.#session = session;
  }

  /** Forget everything; from here on `rows` rows remember `room` positions each, or none if `room` is 0. */
  reset(rows: number, room: number): void {
    const { layers, keyValueHeads, headSize } = this.section;
    const empty = (): Float32Array => new Float32Array(rows * keyValueHeads * headSize * room);
    this.#keys = Array.from({ length: layers }, empty);
    this.#values = Array.from({ length: layers }, empty);
    this.#lengths = new Int32Array(rows);
    this.#room = room;
  }

  /** Let one row remember `length` positions: fewer than it did, or more, whose keys and values are then zero. */
  resize(row: number, length: number): void {
    this.#lengths[row] = length;
  }

  /** Run a window and remember it. @returns logits `[B, S - logitsFrom, V]`, the caller's. */
  async run(window: Window): Promise<Float32Array> {
    const outputs = await this.#session.run(this.#feeds(window));
    if (this.#room > 0) this.#remember(window, outputs.new_key.data as Float32Array, outputs.new_value.data as Float32Array);
    return outputs.logits.data as Float32Array;
  }

  /** Free the graph. */
  close(): Promise<void> {
    return this.#session.release();
  }

  #feeds({ ids, firstRow = 0, starts, logitsFrom = 0 }: Window): Record<string, Tensor> {
    const { layers, keyValueHeads, headSize } = this.section;
    const [rows, size] = [ids.length, ids[0].length];
    const lengths = this.#lengths.subarray(firstRow, firstRow + rows);
    const past = lengths.every((length) => length === 0) ? 0 : this.#room;
    const positions = ids.flatMap((_, row) => ids[row].map((_, index) => (starts?.[row] ?? lengths[row]) + index));
    const pastBias = new Float32Array(rows * past).map((_, i) => (i % past < lengths[Math.floor(i / past)] ? 0 : MASKED));
    const windowBias = new Float32Array(size * size).map((_, i) => (i % size <= Math.floor(i / size) ? 0 : MASKED));
    const feeds: Record<string, Tensor> = {
      ids: new Tensor("int64", BigInt64Array.from(ids.flat(), BigInt), [rows, size]),
      positions: new Tensor("int64", BigInt64Array.from(positions, BigInt), [rows, size]),
      past_bias: new Tensor("float32", pastBias, [rows, 1, 1, past]),
      window_bias: new Tensor("float32", windowBias, [size, size]),
      logits_from: new Tensor("int64", BigInt64Array.of(BigInt(logitsFrom)), [1]),
    };
    const rowSize = keyValueHeads * headSize * past;
    const cached = (buffer: Float32Array): Float32Array => buffer.subarray(firstRow * rowSize, (firstRow + rows) * rowSize);
    for (let layer = 0; layer < layers; layer++) {
      feeds[`past_key.${layer}`] = new Tensor("float32", cached(this.#keys[layer]), [rows, keyValueHeads, past, headSize]);
      feeds[`past_value.${layer}`] = new Tensor("float32", cached(this.#values[layer]), [rows, keyValueHeads, past, headSize]);
    }
    return feeds;
  }

  /** @param newKey `[L, B, H, S, D]`, as `newValue`. */
  #remember({ ids, firstRow = 0 }: Window, newKey: Float32Array, newValue: Float32Array): void {
    const { layers, keyValueHeads, headSize } = this.section;
    const [rows, size] = [ids.length, ids[0].length];
    for (let layer = 0, from = 0; layer < layers; layer++) {
      for (let plane = firstRow * keyValueHeads; plane < (firstRow + rows) * keyValueHeads; plane++, from += headSize * size) {
        const length = this.#lengths[Math.floor(plane / keyValueHeads)];
        const to = (plane * this.#room + length) * headSize;
        this.#keys[layer].set(newKey.subarray(from, from + headSize * size), to);
        this.#values[layer].set(newValue.subarray(from, from + headSize * size), to);
      }
    }
    for (let row = firstRow; row < firstRow + rows; row++) this.#lengths[row] += size;
  }
}
