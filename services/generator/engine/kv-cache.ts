import type { ModelLayout } from "./model.js";

/** Added to the attention score of a position that must not be seen. */
export const MASKED = -1e9;

/**
 * Keys and values of a few rows, each with its own length. Buffers are allocated once, at full capacity, and are handed
 * to the model as they are; the model gives back only new positions, which `append` writes in place.
 */
export class KvCache {
  /** One buffer a layer, `[rows, heads, headSize, capacity]`. */
  readonly keys: readonly Float32Array[];
  /** One buffer a layer, `[rows, heads, capacity, headSize]`. */
  readonly values: readonly Float32Array[];
  /** `[rows, capacity]`: 0 where a position is filled, MASKED where it is not. */
  readonly bias: Float32Array;
  /** Filled positions of each row. */
  readonly lengths: Int32Array;
  readonly capacity: number;
  readonly #layout: ModelLayout;

  /** @param capacity positions a row can hold. */
  constructor(layout: ModelLayout, rows: number, capacity: number) {
    this.#layout = layout;
    this.capacity = capacity;
    const size = rows * layout.keyValueHeads * layout.headSize * capacity;
    this.keys = Array.from({ length: layout.layers }, () => new Float32Array(size));
    this.values = Array.from({ length: layout.layers }, () => new Float32Array(size));
    this.bias = new Float32Array(rows * capacity).fill(MASKED);
    this.lengths = new Int32Array(rows);
  }

  /**
   * Append `count` new positions to rows `firstRow .. firstRow + rows - 1`.
   * @param newKeys `[layers, rows, heads, headSize, count]`.
   * @param newValues `[layers, rows, heads, count, headSize]`.
   */
  append(firstRow: number, rows: number, count: number, newKeys: Float32Array, newValues: Float32Array): void {
    const { layers, keyValueHeads: heads, headSize } = this.#layout;
    const { capacity } = this;
    let from = 0;
    for (let layer = 0; layer < layers; layer++) {
      const keys = this.keys[layer]!;
      const values = this.values[layer]!;
      for (let row = firstRow; row < firstRow + rows; row++) {
        const length = this.lengths[row]!;
        for (let head = 0; head < heads; head++) {
          const base = (row * heads + head) * headSize * capacity;
          values.set(newValues.subarray(from, from + count * headSize), base + length * headSize);
          for (let d = 0; d < headSize; d++) {
            for (let s = 0; s < count; s++) keys[base + d * capacity + length + s] = newKeys[from + d * count + s]!;
          }
          from += count * headSize;
        }
      }
    }
    for (let row = firstRow; row < firstRow + rows; row++) {
      const start = row * capacity + this.lengths[row]!;
      this.bias.fill(0, start, start + count);
      this.lengths[row]! += count;
    }
  }
}
