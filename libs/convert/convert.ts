import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeBundle, type Bundle } from "#libs/bundle/bundle.js";
import type { Manifest, WeightType } from "#libs/bundle/manifest.js";
import { mismatch } from "#libs/errors/errors.js";
import { codebookSize } from "#libs/fsq/fsq.js";
import { readCosmosDecoder, type CosmosDecoder } from "./cosmos-checkpoint.js";
import { pixelsPerToken } from "./cosmos-structure.js";
import { buildDecoder, type DecoderWeightType } from "./decoder-graph.js";
import { Qwen2Checkpoint } from "./qwen2-checkpoint.js";
import type { Qwen2Config } from "./qwen2-config.js";
import { readRecipe, type Recipe, type RecipeOverrides } from "./recipe.js";
import { parseTextVocabulary, type TextVocabulary } from "./text-vocabulary.js";
import { buildTransformer } from "./transformer-graph.js";

/** What to convert and into what. */
export interface ConvertOptions extends RecipeOverrides {
  /** A Hugging Face Qwen2 checkpoint in SimpleAR's layout: config.json, safetensors, tokenizer.json, maybe tessera.json. */
  readonly lmFolder: string;
  /** A Cosmos `decoder.jit`. */
  readonly decoderFile: string;
  /** The bundle; must not exist yet. */
  readonly outFolder: string;
  /** The transformer's weights. */
  readonly weights: WeightType;
  /** The decoder's weights; left out: fp32 if the transformer's are, else fp16. */
  readonly decoderWeights?: DecoderWeightType;
  readonly signal?: AbortSignal;
}

const TOKENIZER_FILE = "tokenizer.json";
const TRANSFORMER_FILE = "transformer.onnx";
const DECODER_FILE = "decoder.onnx";

/**
 * Turn published checkpoints into a model bundle. Equal inputs give equal bytes; a failure leaves nothing behind.
 * @throws mismatch naming the file and what in it is missing, unknown, damaged or does not fit the rest;
 *   unsupported for networks that this build does not write; invalid-request if `outFolder` exists.
 */
export async function convert(options: ConvertOptions): Promise<Bundle> {
  const { name, grid, signal } = options;
  const overrides = { ...(name === undefined ? {} : { name }), ...(grid === undefined ? {} : { grid }) };
  const recipe = await readRecipe(options.lmFolder, overrides);
  const tokenizer = await readTokenizer(options.lmFolder);
  const vocabulary = parseTextVocabulary(tokenizer.toString("utf8"));
  const decoder = await readCosmosDecoder(options.decoderFile);
  const checkpoint = await Qwen2Checkpoint.open(options.lmFolder);
  const codebook = codebookSize(decoder.levels);
  checkVocabulary(checkpoint.config, vocabulary, codebook);
  const decoderWeights = options.decoderWeights ?? (options.weights === "fp32" ? "fp32" : "fp16");
  const manifest = describe(recipe, vocabulary, checkpoint.config, decoder, options.weights, decoderWeights);
  const transformer = await buildTransformer(checkpoint, {
    tokenOffset: vocabulary.size, codebookSize: codebook, weights: options.weights, ...(signal && { signal }),
  });
  const files = {
    [TOKENIZER_FILE]: tokenizer, [TRANSFORMER_FILE]: transformer, [DECODER_FILE]: buildDecoder(decoder, decoderWeights),
  };
  return writeBundle(options.outFolder, manifest, files, { ...(signal && { signal }) });
}

function readTokenizer(folder: string): Promise<Buffer> {
  return readFile(join(folder, TOKENIZER_FILE)).catch(() => {
    throw mismatch(`${folder} has no ${TOKENIZER_FILE}: save the tokenizer in its fast form`);
  });
}

/** Image tokens come right after the text's: `vocab_size` counts both. */
function checkVocabulary(config: Qwen2Config, vocabulary: TextVocabulary, codebook: number): void {
  const left = config.vocabularySize - vocabulary.size;
  if (left === codebook) return;
  throw mismatch(
    `config.json: \`vocab_size\` must be ${vocabulary.size} text tokens plus ${codebook} image tokens, got ${config.vocabularySize}`,
  );
}

function describe(
  recipe: Recipe, vocabulary: TextVocabulary, config: Qwen2Config, decoder: CosmosDecoder, weights: WeightType,
  decoderWeights: DecoderWeightType,
): Omit<Manifest, "files"> {
  const [gridHeight, gridWidth] = recipe.grid;
  const scale = pixelsPerToken(decoder);
  return {
    formatVersion: 1, name: recipe.name, family: "simplear", licence: recipe.licence, provenance: recipe.provenance,
    text: {
      vocabularySize: vocabulary.size, promptTemplate: recipe.promptTemplate,
      negativePromptTemplate: recipe.negativePromptTemplate, unconditionalPrompt: recipe.unconditionalPrompt,
      maxPromptTokens: recipe.maxPromptTokens, specialTokens: vocabulary.specialTokens,
    },
    image: {
      height: gridHeight * scale, width: gridWidth * scale, gridHeight, gridWidth, levels: decoder.levels,
      codebookSize: codebookSize(decoder.levels), tokenOffset: vocabulary.size,
    },
    transformer: {
      file: TRANSFORMER_FILE, weights, layers: config.layers, hiddenSize: config.hiddenSize, heads: config.heads,
      keyValueHeads: config.keyValueHeads, headSize: config.headSize, maxPositions: config.maxPositions,
    },
    decoder: { file: DECODER_FILE, weights: decoderWeights },
    defaults: recipe.defaults,
    metrics: recipe.metrics,
  };
}
