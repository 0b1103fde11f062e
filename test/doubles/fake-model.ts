import { openUniform, philox4x32 } from "#libs/random/philox.js";
import type { KvCache } from "#services/generator/engine/kv-cache.js";
import type { Model, ModelLayout, Pass } from "#services/generator/engine/model.js";

/** A layout small enough to read by eye: 16 image tokens of a codebook of 8. */
export const FAKE_LAYOUT: ModelLayout = {
  layers: 1, keyValueHeads: 1, headSize: 1, codebookSize: 8, tokenOffset: 100, imageTokenCount: 16,
};

/**
 * A model whose logits are a fixed function of everything its row has seen, read back from the cache: any slip in
 * positions, rows or order changes the result.
 */
export class FakeModel implements Model {
  readonly layout: ModelLayout = FAKE_LAYOUT;
  /** Passes run so far, as rows x new positions. */
  readonly passes: (readonly [rows: number, positions: number])[] = [];

  async forward({ cache, firstRow, rows, ids }: Pass): Promise<Float32Array> {
    const count = ids.length / rows;
    this.passes.push([rows, count]);
    const values = Float32Array.from(ids, Number);
    cache.append(firstRow, rows, count, values, values);
    const logits = new Float32Array(rows * this.layout.codebookSize);
    for (let row = 0; row < rows; row++) logits.set(this.#logits(cache, firstRow + row), row * this.layout.codebookSize);
    return logits;
  }

  #logits(cache: KvCache, row: number): Float32Array {
    let digest = 17;
    for (let i = 0; i < cache.lengths[row]!; i++) {
      digest = (Math.imul(digest, 31) + cache.values[0]![row * cache.capacity + i]!) >>> 0;
    }
    const words = new Uint32Array(4);
    return Float32Array.from({ length: this.layout.codebookSize }, (_, v) => {
      philox4x32(v, digest, 0, 0, 1, 2, words);
      return 4 * openUniform(words[0]!);
    });
  }
}
