import type { LatentShape, Latent } from "#libs/flow/latent.js";

/** The sizes that an engine needs to know of a stage-wise model. */
export interface StageLayout {
  /** The latent of each stage, coarsest first; a stage has a token for each of its cells. */
  readonly latents: readonly LatentShape[];
  /** Numbers in a token. */
  readonly tokenMapChannels: number;
  /** Most text tokens of a branch. */
  readonly textPlaces: number;
}

/** Keys and values of some positions of one row: what later stages see of them. Never changed. */
export interface StageMemory {
  readonly positions: number;
  /** `[layers, positions, width]`. */
  readonly keys: Float32Array;
  /** `[layers, positions, width]`. */
  readonly values: Float32Array;
}

/** One branch of one image, at one stage. */
export interface StageRow {
  readonly tokens: readonly number[];
  /** Places that the text takes, `tokens.length` or more; the same in all rows of a pass. */
  readonly textCount: number;
  /** One entry for each stage before. */
  readonly memory: readonly StageMemory[];
  /** What the flow made of the stage before; undefined at the first. */
  readonly latent: Latent | undefined;
}

/** What a pass gives for one row. */
export interface StageOutput {
  /** `[height * width, tokenMapChannels]`. */
  readonly tokenMap: Float32Array;
  /** Undefined at the last stage. */
  readonly memory: StageMemory | undefined;
}

/** A transformer that makes one whole token map in a pass. Knows nothing of requests or guidance, and keeps nothing. */
export interface StageModel {
  readonly layout: StageLayout;
  /** Run one stage of some rows. @returns one output for each row. */
  forward(stage: number, rows: readonly StageRow[]): Promise<readonly StageOutput[]>;
}
