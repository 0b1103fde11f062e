import type { FlowStage } from "#libs/flow/schedule.js";
import type { BundleManifest, ImageSize, WeightType } from "./manifest.js";

/** A model of continuous token maps, stage by stage from coarse to fine (E-CAR, arXiv 2412.14170). */
export interface StageManifest extends BundleManifest {
  readonly family: "ecar";
  readonly image: ImageSize;
  readonly latent: LatentSection;
  /** Coarsest first; each twice as high and wide as the one before, the last is the image's grid. */
  readonly stages: readonly StageSection[];
  readonly transformer: StageTransformerSection;
  readonly flowHead: FlowHeadSection;
  readonly decoder: LatentDecoderSection;
  readonly defaults: GuidanceDefaults;
}

/** What the flow works on: the decoder's latent, brought to mean 0 and variance 1 in each channel. */
export interface LatentSection {
  readonly channels: number;
  /** The decoder's latent is `scale` times the flow's plus `mean`, channel by channel. */
  readonly mean: readonly number[];
  /** Each > 0. */
  readonly scale: readonly number[];
}

/** One stage: one number of every channel, and one token, for each of its cells. */
export interface StageSection extends FlowStage {
  /** Rows of tokens, and of the latent. */
  readonly height: number;
  /** Tokens in a row. */
  readonly width: number;
  /** Steps of the midpoint rule, two velocities each. */
  readonly steps: number;
  /** Share of the guidance that is applied here, 0 .. 1. */
  readonly guidanceShare: number;
}

/**
 * The stage transformer graph. Letters: B rows, P text tokens, N tokens of a stage, S = P + N, T past positions, C latent
 * channels, L layers, W = keyValueHeads * headSize, M channels of a token map. Either P or T is 0: the text comes with the
 * first stage, and later stages see its keys.
 *
 * Inputs: `ids` int64 [B, P]; `context` float32 [B, N, C], the latent of the stage before at the size of this one, zeros at
 * the first; `places` int64 [B, S] (text token p is at p, the cells of all stages follow from textPlaces on);
 * `bias` float32 [B, 1, 1, Q, T + S] (0 where a query may look, -1e9 where not; Q is S or, for all alike, 1);
 * `past_key` and `past_value` float32 [L, B, T, W].
 * Outputs: `token_map` float32 [B, N, M]; `new_key` and `new_value` float32 [L, B, S, W].
 */
export interface StageTransformerSection {
  readonly file: string;
  readonly weights: WeightType;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** Most text tokens that have a place. */
  readonly textPlaces: number;
  readonly tokenMapChannels: number;
}

/**
 * The flow head graph: the velocity of one look. Inputs: `latent` float32 [B, C, h, w]; `token_map` float32 [B, N, M];
 * `time` float32 [B], of the whole flow; `stage` int64 [B]; `cells` int64 [B, N], counted over all stages, coarsest first.
 * Output: `velocity` float32 [B, C, h, w].
 */
export interface FlowHeadSection {
  readonly file: string;
  readonly weights: WeightType;
}

/** The decoder graph. Input: `latent` float32 [B, C, h, w]. Output: `pixels` float32 [B, 3, H, W], about -1..1, not clamped. */
export interface LatentDecoderSection {
  readonly file: string;
  readonly weights: WeightType;
}

/** What a request gets when it names nothing. */
export interface GuidanceDefaults {
  readonly guidanceScale: number;
}

/** Tokens of all stages of one image. */
export function stageTokenCount(stages: readonly Pick<StageSection, "height" | "width">[]): number {
  return stages.reduce((sum, { height, width }) => sum + height * width, 0);
}
