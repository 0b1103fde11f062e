import type { ModelLayout, PassOutput } from "./model.js";

/** Added to the attention score of a position that must not be seen. */
export const MASKED = -1e9;

/** Positions that a row grows by, at least. */
const MIN_GROWTH = 32;

/** New positions of one pass, as the model returned them. */
export interface NewPositions extends Pick<PassOutput, "newKeys" | "newValues"> {
  /** Rows of the pass. */
  readonly rows: number;
  /** Positions a row in the pass. */
  readonly count: number;
}

/**
 * Keys and values of a few rows, each with its own length. Buffers are allocated once at their full size, which costs no
 * memory before it is written; a row's stride follows the longest row, so that a pass over all rows never reads much
 * more than is filled. Changing the stride moves the rows, once in many steps.
 *
 * Buffers are handed to the model as they are; it gives back only new positions, which `append` writes in place.
 */
export class KvCache {
  /** One buffer a layer, `[rows, heads, capacity, headSize]` in its first elements, as the values. */
  readonly keys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
  /** `[rows, capacity]`: 0 where a position is filled, MASKED where it is not. */
  readonly bias: Float32Array;
  /** Filled positions of each row. */
  readonly lengths: Int32Array;
  readonly rows: number;
  readonly maxCapacity: number;
  readonly #layout: ModelLayout;
  readonly #growth: number;
  #capacity = 0;

  /** @param maxCapacity positions a row can ever hold. */
  constructor(layout: ModelLayout, rows: number, maxCapacity: number) {
    this.#layout = layout;
    this.rows = rows;
    this.maxCapacity = maxCapacity;
    this.#growth = Math.max(MIN_GROWTH, Math.ceil(maxCapacity / 32));
    const size = rows * layout.keyValueHeads * layout.headSize * maxCapacity;
    this.keys = Array.from({ length: layout.layers }, () => new Float32Array(size));
    this.values = Array.from({ length: layout.layers }, () => new Float32Array(size));
    this.bias = new Float32Array(rows * maxCapacity);
    this.lengths = new Int32Array(rows);
  }

  /** Bytes that one row of `positions` positions takes in the cache of such a model. */
  static rowBytes({ layers, keyValueHeads, headSize }: ModelLayout, positions: number): number {
    return 2 * layers * keyValueHeads * headSize * positions * Float32Array.BYTES_PER_ELEMENT;
  }

  /** Positions a row has room for now: the stride of the buffers. */
  get capacity(): number {
    return this.#capacity;
  }

  /**
   * Make room for `positions` positions in every row, and give room up that is far more than that.
   * @throws RangeError beyond `maxCapacity`.
   */
  reserve(positions: number): void {
    if (positions > this.maxCapacity) throw new RangeError(`a row holds ${this.maxCapacity} positions, not ${positions}`);
    const wanted = Math.min(this.maxCapacity, Math.ceil(positions / this.#growth) * this.#growth);
    if (wanted > this.#capacity || wanted + this.#growth < this.#capacity) this.#restride(wanted);
  }

  /** Append the first `count` of a pass's new positions in its row `from` to this cache's row `row`. */
  append(row: number, pass: NewPositions, from: number, count: number): void {
    const { layers, keyValueHeads: heads, headSize } = this.#layout;
    const length = this.lengths[row];
    if (length + count > this.#capacity) throw new RangeError(`row ${row} has no room for ${count} positions behind ${length}`);
    const { newKeys, newValues } = pass;
    const size = count * headSize;
    for (let layer = 0; layer < layers; layer++) {
      const keys = this.keys[layer];
      const values = this.values[layer];
      for (let head = 0; head < heads; head++) {
        const source = ((layer * pass.rows + from) * heads + head) * pass.count * headSize;
        const target = ((row * heads + head) * this.#capacity + length) * headSize;
        // So short that loops are faster than `set`.
        for (let i = 0; i < size; i++) keys[target + i] = newKeys[source + i];
        for (let i = 0; i < size; i++) values[target + i] = newValues[source + i];
      }
    }
    this.#setLength(row, length + count);
  }

  /** Make row `to` a copy of row `from` of `source`, which may be this cache. */
  copyRow(source: KvCache, from: number, to: number): void {
    const { layers, keyValueHeads: heads, headSize } = this.#layout;
    const length = source.lengths[from];
    if (length > this.#capacity) throw new RangeError(`row ${to} has no room for ${length} positions`);
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) {
        const theirs = (from * heads + head) * source.#capacity * headSize;
        const ours = (to * heads + head) * this.#capacity * headSize;
        this.keys[layer].set(source.keys[layer].subarray(theirs, theirs + length * headSize), ours);
        this.values[layer].set(source.values[layer].subarray(theirs, theirs + length * headSize), ours);
      }
    }
    this.#setLength(to, length);
  }

  /** Empty a row. */
  clear(row: number): void {
    this.#setLength(row, 0);
  }

  #setLength(row: number, length: number): void {
    const start = row * this.#capacity;
    this.bias.fill(0, start, start + length);
    this.bias.fill(MASKED, start + length, start + this.#capacity);
    this.lengths[row] = length;
  }

  /** Move every row's parts to where the new stride puts them: from the end when it grows, from the start when it shrinks. */
  #restride(capacity: number): void {
    const { keyValueHeads: heads, headSize } = this.#layout;
    const old = this.#capacity;
    const order = Array.from({ length: this.rows * heads }, (_, i) => (capacity > old ? this.rows * heads - 1 - i : i));
    for (const index of order) {
      const length = this.lengths[Math.floor(index / heads)];
      const [from, to] = [index * old * headSize, index * capacity * headSize];
      for (const buffer of [...this.keys, ...this.values]) buffer.copyWithin(to, from, from + length * headSize);
    }
    this.#capacity = capacity;
    this.lengths.forEach((length, row) => this.#setLength(row, length));
  }
}
