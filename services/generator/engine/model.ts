import type { KvCache } from "./kv-cache.js";

/** The sizes that an engine needs to know of a model. */
export interface ModelLayout {
  readonly layers: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** Image tokens are 0 .. codebookSize - 1. */
  readonly codebookSize: number;
  /** The transformer's id of image token 0. */
  readonly tokenOffset: number;
  /** Image tokens in one image. */
  readonly imageTokenCount: number;
}

/** One pass over new positions of consecutive cache rows. */
export interface Pass {
  readonly cache: KvCache;
  readonly firstRow: number;
  readonly rows: number;
  /** `[rows, S]` ids in the transformer's vocabulary; they continue each row from its length in the cache. */
  readonly ids: BigInt64Array;
}

/** A transformer. Knows nothing of requests, guidance or sampling. */
export interface Model {
  readonly layout: ModelLayout;
  /**
   * Run one pass and append its keys and values to the cache.
   * @returns `[rows, codebookSize]` logits of the token after each row's last position; valid until the next pass.
   */
  forward(pass: Pass): Promise<Float32Array>;
}
