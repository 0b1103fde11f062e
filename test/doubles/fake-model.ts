import { openUniform, philox4x32 } from "#libs/random/philox.js";
import type { KvCache } from "#services/generator/engine/kv-cache.js";
import type { Model, ModelLayout, Pass, PassOutput } from "#services/generator/engine/model.js";

/** A layout small enough to read by eye: 16 image tokens of a codebook of 8. */
export const FAKE_LAYOUT: ModelLayout = {
  layers: 1, keyValueHeads: 1, headSize: 1, codebookSize: 8, tokenOffset: 100, imageTokenCount: 16, maxPositions: 32,
};

/** How a fake model behaves. */
export interface FakeModelOptions {
  readonly layout?: ModelLayout;
  /** Earlier positions that a logit depends on: few make drafts good, many make them bad. Default: all. */
  readonly memory?: number;
}

/**
 * A model whose logits are a fixed function of everything its row has seen, read back from the cache: any slip in
 * positions, rows, order or rollback changes the result.
 */
export class FakeModel implements Model {
  readonly layout: ModelLayout;
  /** Passes run so far, as rows x new positions. */
  readonly passes: (readonly [rows: number, positions: number])[] = [];
  readonly #memory: number;

  constructor({ layout = FAKE_LAYOUT, memory = Infinity }: FakeModelOptions = {}) {
    this.layout = layout;
    this.#memory = memory;
  }

  async forward({ cache, firstRow, rows, ids, logitsFrom }: Pass): Promise<PassOutput> {
    const { codebookSize } = this.layout;
    const count = ids.length / rows;
    this.passes.push([rows, count]);
    const logits = new Float32Array(rows * (count - logitsFrom) * codebookSize);
    for (let row = 0; row < rows; row++) {
      const seen = [...seenBy(cache, firstRow + row), ...Array.from(ids.subarray(row * count, (row + 1) * count), Number)];
      for (let s = logitsFrom; s < count; s++) {
        const until = seen.length - count + s + 1;
        logits.set(this.#logits(seen.slice(0, until)), (row * (count - logitsFrom) + s - logitsFrom) * codebookSize);
      }
    }
    const news = Float32Array.from(ids, Number);
    return { logits, newKeys: news, newValues: news };
  }

  #logits(seen: readonly number[]): Float32Array {
    let digest = seen.length;
    for (const id of seen.slice(Math.max(0, seen.length - this.#memory))) digest = (Math.imul(digest, 31) + id) >>> 0;
    const words = new Uint32Array(4);
    return Float32Array.from({ length: this.layout.codebookSize }, (_, v) => {
      philox4x32(v, digest, 0, 0, 1, 2, words);
      return 4 * openUniform(words[0]!);
    });
  }
}

/** What a row has taken in: both halves of the cache must tell the same. */
function seenBy(cache: KvCache, row: number): number[] {
  const start = row * cache.capacity;
  const keys = cache.keys[0]!.subarray(start, start + cache.lengths[row]!);
  const values = cache.values[0]!.subarray(start, start + cache.lengths[row]!);
  if (keys.some((key, i) => key !== values[i])) throw new Error(`row ${row} has keys and values of different tokens`);
  const hidden = cache.bias.subarray(start, start + cache.capacity).findIndex((bias) => bias !== 0);
  if (cache.lengths[row]! < cache.capacity && hidden !== cache.lengths[row]!) throw new Error(`row ${row} is masked wrongly`);
  return [...values];
}
