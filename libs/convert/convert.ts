import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import type { GenerationConfig, TokenManifest, WeightType } from "#libs/bundle/manifest.js";
import { parseManifest } from "#libs/bundle/parse-manifest.js";
import { mismatch } from "#libs/errors/errors.js";
import { codebookSize } from "#libs/fsq/fsq.js";
import { WeightFile } from "#libs/onnx/weight-file.js";
import {
  collectCosmosDecoder, collectCosmosEncoder, type Compression, type CosmosDecoder, type CosmosEncoder,
} from "./cosmos-checkpoint.js";
import { checkTokenizer, pixelsPerToken } from "./cosmos-structure.js";
import { buildDecoder, type DecoderWeightType } from "./decoder-graph.js";
import { buildEncoder } from "./encoder-graph.js";
import { readText } from "./file-range.js";
import { readGenerationConfig } from "./generation-config.js";
import { Qwen2Checkpoint } from "./qwen2-checkpoint.js";
import type { Qwen2Config } from "./qwen2-config.js";
import { readRecipe, type Recipe, type RecipeOverrides } from "./recipe.js";
import { parseTextVocabulary, type TextVocabulary } from "./text-vocabulary.js";
import { readTorchArchive } from "./torch-archive.js";
import { buildTransformer } from "./transformer-graph.js";

/** What to convert and into what. */
export interface ConvertOptions extends RecipeOverrides {
  /** A Hugging Face Qwen2 checkpoint in SimpleAR's layout: config.json, safetensors, tokenizer.json, maybe tessera.json. */
  readonly lmFolder: string;
  /** A Cosmos `decoder.jit`. */
  readonly decoderFile: string;
  /** The `encoder.jit` beside it, if images are to become tokens. */
  readonly encoderFile?: string;
  /** Of a video tokenizer whose files keep what they do not use; left out: it follows from their arrays. */
  readonly compression?: Compression;
  /** The bundle; must not exist yet. */
  readonly outFolder: string;
  /** The transformer's weights. */
  readonly weights: WeightType;
  /** The decoder's and encoder's weights; left out: fp32 if the transformer's are, else fp16. */
  readonly decoderWeights?: DecoderWeightType;
  /** Hears how many bytes of the checkpoints' weights are through, after each array. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

/** The same name in checkpoints and bundles. */
export const TOKENIZER_FILE = "tokenizer.json";
const TRANSFORMER_FILE = "transformer.onnx";
const DECODER_FILE = "decoder.onnx";
const ENCODER_FILE = "encoder.onnx";
/** Several times what 150,000 tokens take. */
const MAX_TOKENIZER_BYTES = 2 ** 26;

/**
 * Turn published checkpoints into a model bundle. Equal inputs give equal bytes; a failure leaves nothing behind.
 * Weights pass through one array at a time: the transformer takes a few times its largest array of memory, whatever its size.
 * @throws mismatch naming the file and what in it is missing, unknown, damaged or does not fit the rest;
 *   unsupported for networks that this build does not write; invalid-request if `outFolder` exists.
 */
export async function convert(options: ConvertOptions): Promise<TokenBundle> {
  const { name, grid, signal } = options;
  const overrides = { ...(name === undefined ? {} : { name }), ...(grid === undefined ? {} : { grid }) };
  const recipe = await readRecipe(options.lmFolder, overrides);
  const generationConfig = await readGenerationConfig(options.lmFolder);
  const tokenizer = await readTokenizer(options.lmFolder);
  const vocabulary = parseTextVocabulary(tokenizer);
  const { lm, decoder, encoder } = await openCheckpoints(options);
  const codebook = codebookSize(decoder.levels);
  checkVocabulary(lm.config, vocabulary, codebook);
  const weights = { transformer: options.weights, decoder: decoderWeights(options) };
  const manifest = describe({ recipe, generationConfig, vocabulary, config: lm.config, decoder, hasEncoder: encoder !== undefined, weights });
  checkManifest(manifest);
  return writeBundle(options.outFolder, async (draft) => {
    await writeFile(join(draft, TOKENIZER_FILE), tokenizer);
    const cosmos = { weights: weights.decoder, ...(signal && { signal }) };
    await writeGraph(join(draft, DECODER_FILE), (weightFile) => buildDecoder(decoder, { ...cosmos, weightFile }));
    if (encoder) await writeGraph(join(draft, ENCODER_FILE), (weightFile) => buildEncoder(encoder, { ...cosmos, weightFile }));
    await writeGraph(join(draft, TRANSFORMER_FILE), (weightFile) => buildTransformer(lm, {
      tokenOffset: vocabulary.size, codebookSize: codebook, weights: weights.transformer, weightFile, ...(signal && { signal }),
    }));
    return manifest;
  }, { ...(signal && { signal }) });
}

interface Checkpoints {
  readonly lm: Qwen2Checkpoint;
  readonly decoder: CosmosDecoder;
  readonly encoder: CosmosEncoder | undefined;
}

/** Open what is to be converted, and check that the tokenizer's two halves fit. Of weights, only its tables are read yet. */
async function openCheckpoints({ lmFolder, decoderFile, encoderFile, compression, onProgress }: ConvertOptions): Promise<Checkpoints> {
  let doneBytes = 0;
  // A tied head is read beside its embedding: a part of what is stored passes twice.
  const onRead = (bytes: number): void => onProgress?.(Math.min((doneBytes += bytes), totalBytes), totalBytes);
  const lm = await Qwen2Checkpoint.open(lmFolder, onRead);
  const decoderTensors = await readTorchArchive(decoderFile, onRead);
  const encoderTensors = encoderFile === undefined ? undefined : await readTorchArchive(encoderFile, onRead);
  const totalBytes = lm.bytes + decoderTensors.bytes + (encoderTensors?.bytes ?? 0);
  const decoder = await collectCosmosDecoder(decoderTensors, compression);
  const encoder = encoderTensors && (await collectCosmosEncoder(encoderTensors, compression));
  checkTokenizer(decoder, encoder);
  return { lm, decoder, encoder };
}

/** How the decoder's weights are stored. */
export function decoderWeights({ weights, decoderWeights }: Pick<ConvertOptions, "weights" | "decoderWeights">): DecoderWeightType {
  return decoderWeights ?? (weights === "fp32" ? "fp32" : "fp16");
}

/** Write the graph that `build` makes to `path`, and the constants that it puts into the weight file beside it. */
export async function writeGraph(path: string, build: (weightFile: WeightFile) => Promise<Uint8Array>): Promise<void> {
  const weightFile = new WeightFile(`${path}.data`);
  try {
    await writeFile(path, await build(weightFile));
  } finally {
    weightFile.close();
  }
}

/** The text of a checkpoint folder's `tokenizer.json`. @throws mismatch without one. */
export async function readTokenizer(folder: string): Promise<string> {
  const path = join(folder, TOKENIZER_FILE);
  if (!existsSync(path)) throw mismatch(`${folder} has no ${TOKENIZER_FILE}: save the tokenizer in its fast form`);
  return readText(path, MAX_TOKENIZER_BYTES);
}

/** Image tokens come right after the text's: `vocab_size` counts both. */
function checkVocabulary(config: Qwen2Config, vocabulary: TextVocabulary, codebook: number): void {
  const left = config.vocabularySize - vocabulary.size;
  if (left === codebook) return;
  throw mismatch(
    `config.json: \`vocab_size\` must be ${vocabulary.size} text tokens plus ${codebook} image tokens, got ${config.vocabularySize}`,
  );
}

/** What is wrong with a manifest is wrong before its files are there, and these take minutes. */
function checkManifest(manifest: Omit<TokenManifest, "files">): void {
  const names = [TOKENIZER_FILE, manifest.transformer.file, manifest.decoder.file, ...(manifest.encoder ? [manifest.encoder.file] : [])];
  parseManifest({ ...manifest, files: Object.fromEntries(names.map((name) => [name, { sha256: "0".repeat(64), bytes: 1 }])) });
}

/** All that a manifest is put together from. */
interface Parts {
  readonly recipe: Recipe;
  readonly generationConfig: GenerationConfig | undefined;
  readonly vocabulary: TextVocabulary;
  readonly config: Qwen2Config;
  readonly decoder: CosmosDecoder;
  readonly hasEncoder: boolean;
  readonly weights: { readonly transformer: WeightType; readonly decoder: DecoderWeightType };
}

function describe({ recipe, generationConfig, vocabulary, config, decoder, hasEncoder, weights }: Parts): Omit<TokenManifest, "files"> {
  const [gridHeight, gridWidth] = recipe.grid;
  const { levels } = decoder;
  const scale = pixelsPerToken(decoder);
  return {
    formatVersion: 1, name: recipe.name, family: "simplear", licence: recipe.licence, provenance: recipe.provenance,
    text: {
      vocabularySize: vocabulary.size, promptTemplate: recipe.promptTemplate,
      negativePromptTemplate: recipe.negativePromptTemplate, unconditionalPrompt: recipe.unconditionalPrompt,
      maxPromptTokens: recipe.maxPromptTokens, specialTokens: vocabulary.specialTokens,
    },
    image: {
      height: gridHeight * scale, width: gridWidth * scale, gridHeight, gridWidth, levels, codebookSize: codebookSize(levels),
      tokenOffset: vocabulary.size,
    },
    transformer: {
      file: TRANSFORMER_FILE, weights: weights.transformer, layers: config.layers, hiddenSize: config.hiddenSize, heads: config.heads,
      keyValueHeads: config.keyValueHeads, headSize: config.headSize, maxPositions: config.maxPositions,
    },
    decoder: { file: DECODER_FILE, weights: weights.decoder },
    ...(hasEncoder && { encoder: { file: ENCODER_FILE, weights: weights.decoder } }),
    defaults: recipe.defaults,
    ...(generationConfig && { generationConfig }),
    metrics: recipe.metrics,
  };
}
