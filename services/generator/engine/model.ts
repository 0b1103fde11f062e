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
  /** Positions the model was made for: text and image tokens of one branch together. */
  readonly maxPositions: number;
}

/** One pass over S new positions of consecutive cache rows. */
export interface Pass {
  readonly cache: KvCache;
  readonly firstRow: number;
  readonly rows: number;
  /** `[rows, S]` ids in the transformer's vocabulary; they continue each row from its length in the cache. */
  readonly ids: BigInt64Array;
  /** First of the S positions whose logits are wanted. */
  readonly logitsFrom: number;
}

/** What a pass gives; valid until the next one. Letters: L layers, H key/value heads, D head size, V codebook size. */
export interface PassOutput {
  /** `[rows, S - logitsFrom, V]`: the law of the token after each position. */
  readonly logits: Float32Array;
  /** `[L, rows, H, S, D]`, as the values. */
  readonly newKeys: Float32Array;
  readonly newValues: Float32Array;
}

/** A transformer. Knows nothing of requests, guidance or sampling, and leaves the cache as it is. */
export interface Model {
  readonly layout: ModelLayout;
  forward(pass: Pass): Promise<PassOutput>;
}
