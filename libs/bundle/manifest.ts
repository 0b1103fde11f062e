import type { StageManifest } from "./stage-manifest.js";

/**
 * What a bundle's `model.json` says, of whatever family. Written by the converter, read by every service.
 *
 * A graph whose large constants (64 KiB and more) pass 64 MiB together keeps them beside it in `<graph>.data`, where ONNX
 * Runtime finds them by itself, each at a multiple of 4096 bytes, so that it can be mapped; other graphs are one file.
 * `files` lists the data as it does the graphs.
 */
export interface BundleManifest {
  /** Version of this format; 1. */
  readonly formatVersion: 1;
  readonly name: string;
  /** SPDX expression of the weights' licence. */
  readonly licence: string;
  /** Free text for people: data, recipe, commit. */
  readonly provenance: Readonly<Record<string, string>>;
  readonly text: TextSection;
  /** Every other file of the bundle by name. */
  readonly files: Readonly<Record<string, FileEntry>>;
  /** Measured figures, by name. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** A model of discrete image tokens in raster order. */
export interface TokenManifest extends BundleManifest {
  readonly family: "simplear";
  readonly image: ImageSection;
  readonly transformer: TransformerSection;
  readonly decoder: DecoderSection;
  /** There if the tokenizer's encoder was converted too. */
  readonly encoder?: EncoderSection;
  readonly defaults: SamplingDefaults;
  /** There if the checkpoint had a `generation_config.json`. */
  readonly generationConfig?: GenerationConfig;
}

/** Any model, told apart by `family`. */
export type Manifest = TokenManifest | StageManifest;

/** Text side: `tokenizer.json` and how a prompt becomes text tokens. */
export interface TextSection {
  /** Number of text tokens, special tokens included: `len(tokenizer)`. */
  readonly vocabularySize: number;
  /** Holds `{prompt}` once, e.g. `<|t2i|>An icon of {prompt}<|soi|>`. */
  readonly promptTemplate: string;
  /** The same for a negative prompt. */
  readonly negativePromptTemplate: string;
  /** The whole text of the unconditional branch when no negative prompt is given, e.g. `<|t2i|><|soi|>`. */
  readonly unconditionalPrompt: string;
  /** Most text tokens an encoded prompt may have, template included. */
  readonly maxPromptTokens: number;
  /** Special tokens by their text. */
  readonly specialTokens: Readonly<Record<string, number>>;
}

/** Sizes of an image. */
export interface ImageSize {
  /** Pixels. */
  readonly height: number;
  /** Pixels. */
  readonly width: number;
  /** Rows of image tokens; of the last stage's, where there are stages. */
  readonly gridHeight: number;
  /** Image tokens in a row. */
  readonly gridWidth: number;
}

/** Image side: sizes and codebook. */
export interface ImageSection extends ImageSize {
  /** FSQ levels, channel 0 first; their product is the codebook size. */
  readonly levels: readonly number[];
  readonly codebookSize: number;
  /** The transformer's id of image token 0. */
  readonly tokenOffset: number;
}

/**
 * The transformer graph. Letters: B rows, S new positions, T past positions, L layers, H key/value heads, D head size,
 * V codebook size.
 *
 * Inputs: `ids` int64 [B, S] (text ids, or tokenOffset + image token); `positions` int64 [B, S];
 * `past_bias` float32 [B, 1, 1, T] (0 where the past position is valid, -1e9 where not); `window_bias` float32 [S, S]
 * (0 where query s may see new position s', -1e9 where not); `logits_from` int64 [1] (first new position whose logits are wanted);
 * `past_key.{l}` and `past_value.{l}` float32 [B, H, T, D]. T may be 0.
 * Outputs: `logits` float32 [B, S - logits_from, V] over image tokens only; `new_key` and `new_value`
 * float32 [L, B, H, S, D]. The cache itself is never an output: whoever runs the graph writes the new rows.
 */
export interface TransformerSection {
  readonly file: string;
  readonly weights: WeightType;
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** Positions the model was made for. */
  readonly maxPositions: number;
}

/** The decoder graph. Input: `tokens` int64 [B, h, w]. Output: `pixels` float32 [B, 3, H, W], about -1..1, not clamped. */
export interface DecoderSection {
  readonly file: string;
  readonly weights: WeightType;
}

/**
 * The encoder graph, the decoder's counterpart. Input: `pixels` float32 [B, 3, H, W] in -1..1; H and W are multiples of the
 * pixels of an image token. Output: `tokens` int64 [B, h, w].
 */
export interface EncoderSection {
  readonly file: string;
  readonly weights: WeightType;
}

/** How a graph's weight matrices are stored. */
export type WeightType = "fp32" | "fp16" | "int8" | "int4";

/** What a request gets when it names nothing. */
export interface SamplingDefaults {
  readonly guidanceScale: number;
  readonly temperature: number;
  /** 0 keeps all tokens. */
  readonly topK: number;
  readonly topP: number;
}

/**
 * What the checkpoint's own `generation_config.json` says, for the record: `defaults` is what requests get. Base models
 * bring settings for text along, such as a repetition penalty, which the makers of the images may not have used.
 */
export interface GenerationConfig {
  /** Divides a positive logit, and multiplies a negative one, of every token that is there already; 1 is off. */
  readonly repetitionPenalty?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
}

/** One file of the bundle. */
export interface FileEntry {
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string;
  readonly bytes: number;
}
