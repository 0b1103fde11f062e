import { KvCache } from "./kv-cache.js";
import { KvSlots, type SlotsSnapshot } from "./kv-slots.js";
import type { Model } from "./model.js";
import type { Sequence } from "./sequence.js";

/** One sequence's part of a pass. */
export interface Window {
  readonly sequence: Sequence;
  /** Image tokens to feed: the last final one, which is not in the cache yet, and the drafts behind it. */
  readonly tokens: readonly number[];
}

/** What a pass over the batch gives. */
export interface BatchPass {
  /** Logits behind position `j` of a sequence's window, `[V]` for each of its rows; to be used up at once. */
  logits(sequence: Sequence, j: number): readonly Float32Array[];
  /** Put the first `count` positions of a sequence's window into the cache: those whose tokens have become final. */
  commit(sequence: Sequence, count: number): void;
}

/** The sequences that decode together: rows of one cache, always side by side. */
export class Batch {
  readonly #model: Model;
  readonly #cache: KvCache;
  readonly #slots: KvSlots;
  readonly #sequences = new Map<number, Sequence>();

  /** @param rows of the cache; @param maxPositions positions a row can hold. */
  constructor(model: Model, rows: number, maxPositions: number) {
    this.#model = model;
    this.#cache = new KvCache(model.layout, rows, maxPositions);
    this.#slots = new KvSlots(rows);
  }

  /** In order of joining. */
  get sequences(): readonly Sequence[] {
    return [...this.#sequences.values()];
  }

  get slots(): SlotsSnapshot {
    return this.#slots.snapshot;
  }

  get freeRows(): number {
    return this.#slots.free;
  }

  /** Positions that are filled. */
  get filledPositions(): number {
    return this.#cache.lengths.subarray(0, this.#slots.snapshot.placed).reduce((a, b) => a + b, 0);
  }

  /** Promise a sequence the rows it needs. */
  reserve(sequence: Sequence): void {
    this.#slots.reserve(sequence.id, sequence.rows);
  }

  /** Copy a sequence's prompts into rows of its own; from now on it decodes with the others. */
  join(sequence: Sequence): void {
    this.#cache.reserve(Math.max(...this.#cache.lengths, ...sequence.prompts.map(({ done }) => done)));
    const rows = this.#slots.place(sequence.id);
    for (const [branch, prompt] of sequence.prompts.entries()) this.#cache.copyRow(prompt.cache, 0, rows[branch]);
    this.#sequences.set(sequence.id, sequence);
  }

  /** Take a sequence's rows back, whether it has joined or not. */
  leave(sequence: Sequence): void {
    for (const { from, to } of this.#slots.release(sequence.id)) this.#cache.copyRow(this.#cache, from, to);
    this.#sequences.delete(sequence.id);
    for (let row = this.#slots.snapshot.placed; row < this.#cache.rows && this.#cache.lengths[row] > 0; row++) {
      this.#cache.clear(row);
    }
  }

  /** Run all sequences one pass further, each with its own window; shorter windows are filled up, unseen by anyone. */
  async pass(windows: readonly Window[]): Promise<BatchPass> {
    const { tokenOffset, codebookSize } = this.#model.layout;
    const rows = this.#slots.snapshot.placed;
    const count = Math.max(...windows.map(({ tokens }) => tokens.length));
    // Only final tokens will be put into the cache, but all of a window may turn out to be final.
    this.#cache.reserve(Math.min(this.#cache.maxCapacity, Math.max(...this.#cache.lengths) + count));
    const ids = new BigInt64Array(rows * count).fill(BigInt(tokenOffset));
    for (const { sequence, tokens } of windows) {
      for (const row of this.#slots.rowsOf(sequence.id)) {
        for (const [j, token] of tokens.entries()) ids[row * count + j] = BigInt(tokenOffset + token);
      }
    }
    const { logits, newKeys, newValues } = await this.#model.forward({ cache: this.#cache, firstRow: 0, rows, ids, logitsFrom: 0 });
    return {
      logits: (sequence, j) => this.#slots.rowsOf(sequence.id).map((row) => {
        const start = (row * count + j) * codebookSize;
        return logits.subarray(start, start + codebookSize);
      }),
      commit: (sequence, accepted) => {
        for (const row of this.#slots.rowsOf(sequence.id)) {
          this.#cache.append(row, { rows, count, newKeys, newValues }, row, accepted);
        }
      },
    };
  }

  /** What is wrong with the books, in words; empty if nothing is. */
  checkInvariants(): readonly string[] {
    const problems = [...this.#slots.checkInvariants()];
    for (const [row, length] of this.#cache.lengths.entries()) {
      if (length > 0 && row >= this.#slots.snapshot.placed) problems.push(`row ${row} holds ${length} positions of nobody`);
    }
    return problems;
  }
}
