import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeBundle, type StageBundle } from "#libs/bundle/bundle.js";
import type { GuidanceDefaults, StageManifest } from "#libs/bundle/stage-manifest.js";
import { mismatch, unsupported } from "#libs/errors/errors.js";
import { decoderWeights, readTokenizer, TOKENIZER_FILE, writeGraph, type ConvertOptions } from "./convert.js";
import { collectCosmosDecoder, type CosmosDecoder } from "./cosmos-checkpoint.js";
import { pixelsPerToken } from "./cosmos-structure.js";
import { buildDecoder } from "./decoder-graph.js";
import { EcarCheckpoint } from "./ecar-checkpoint.js";
import type { EcarConfig } from "./ecar-config.js";
import { buildFlowHead } from "./flow-head-graph.js";
import { readStageRecipe, type Recipe } from "./recipe.js";
import { buildStageTransformer } from "./stage-transformer-graph.js";
import { parseTextVocabulary, type TextVocabulary } from "./text-vocabulary.js";
import { readTorchArchive } from "./torch-archive.js";

const TRANSFORMER_FILE = "stages.onnx";
const FLOW_HEAD_FILE = "flow.onnx";
const DECODER_FILE = "decoder.onnx";

/**
 * Turn an E-CAR checkpoint and a continuous Cosmos decoder into a model bundle, as `convert` does for discrete tokens.
 * @throws mismatch naming the file and what in it is missing, unknown, damaged or does not fit the rest; unsupported for an
 *   encoder or a grid, of which this family has no choice; invalid-request if `outFolder` exists.
 */
export async function convertStages(options: ConvertOptions): Promise<StageBundle> {
  const { signal } = options;
  if (options.encoderFile !== undefined) throw unsupported("a bundle of continuous tokens takes no encoder: nothing would read it");
  if (options.grid !== undefined) throw unsupported("the grid of an E-CAR checkpoint is its last stage's: leave it out");
  const recipe = await readStageRecipe(options.lmFolder, options);
  const tokenizer = await readTokenizer(options.lmFolder);
  const vocabulary = parseTextVocabulary(tokenizer);
  let doneBytes = 0;
  const onRead = (bytes: number): void => options.onProgress?.((doneBytes += bytes), totalBytes);
  const checkpoint = await EcarCheckpoint.open(options.lmFolder, onRead);
  const archive = await readTorchArchive(options.decoderFile, onRead);
  const totalBytes = checkpoint.bytes + archive.bytes;
  const decoder = await collectCosmosDecoder(archive, options.compression);
  checkParts(checkpoint.config, vocabulary, decoder, recipe);
  const own = { weights: options.weights, ...(signal && { signal }) };
  const codec = { weights: decoderWeights(options), ...(signal && { signal }) };
  return writeBundle<StageManifest>(options.outFolder, async (draft) => {
    await writeFile(join(draft, TOKENIZER_FILE), tokenizer);
    await writeGraph(join(draft, DECODER_FILE), (weightFile) => buildDecoder(decoder, { ...codec, weightFile }));
    await writeGraph(join(draft, TRANSFORMER_FILE), (weightFile) => buildStageTransformer(checkpoint, { ...own, weightFile }));
    await writeGraph(join(draft, FLOW_HEAD_FILE), (weightFile) => buildFlowHead(checkpoint, { ...own, weightFile }));
    checkpoint.finish();
    return describe(recipe, vocabulary, checkpoint.config, decoder, { transformer: own.weights, decoder: codec.weights });
  }, { ...(signal && { signal }) });
}

function checkParts(config: EcarConfig, vocabulary: TextVocabulary, decoder: CosmosDecoder, recipe: Recipe<GuidanceDefaults>): void {
  const { transformer, latent, stages, maxPromptTokens } = config;
  const { height, width } = stages.at(-1)!;
  if (transformer.vocabularySize !== vocabulary.size) {
    throw mismatch(`config.json: \`transformer.vocab_size\` must be the tokenizer's ${vocabulary.size}, got ${transformer.vocabularySize}`);
  }
  if (decoder.levels.length > 0) throw unsupported("the decoder takes discrete tokens and the flow gives latents: give a continuous one, CV or CI");
  if (decoder.latentChannels !== latent.channels) {
    throw mismatch(`the decoder must take latents of ${latent.channels} channels, got ${decoder.latentChannels}`);
  }
  if (recipe.grid.join() !== `${height},${width}`) {
    throw mismatch(`tessera.json: \`grid\` must be the last stage's ${height} x ${width}, got ${recipe.grid.join(" x ")}`);
  }
  if (recipe.maxPromptTokens > maxPromptTokens) {
    throw mismatch(`tessera.json: \`maxPromptTokens\` must be at most config.json's ${maxPromptTokens}, got ${recipe.maxPromptTokens}`);
  }
}

function describe(
  recipe: Recipe<GuidanceDefaults>, vocabulary: TextVocabulary, config: EcarConfig, decoder: CosmosDecoder,
  weights: { readonly transformer: ConvertOptions["weights"]; readonly decoder: ConvertOptions["weights"] },
): Omit<StageManifest, "files"> {
  const { layers, hiddenSize, heads, keyValueHeads, headSize } = config.transformer;
  const { height: gridHeight, width: gridWidth } = config.stages.at(-1)!;
  const scale = pixelsPerToken(decoder);
  return {
    formatVersion: 1, name: recipe.name, family: "ecar", licence: recipe.licence, provenance: recipe.provenance,
    text: {
      vocabularySize: vocabulary.size, promptTemplate: recipe.promptTemplate,
      negativePromptTemplate: recipe.negativePromptTemplate, unconditionalPrompt: recipe.unconditionalPrompt,
      maxPromptTokens: recipe.maxPromptTokens, specialTokens: vocabulary.specialTokens,
    },
    image: { height: gridHeight * scale, width: gridWidth * scale, gridHeight, gridWidth },
    latent: config.latent,
    stages: config.stages,
    transformer: {
      file: TRANSFORMER_FILE, weights: weights.transformer, layers, hiddenSize, heads, keyValueHeads, headSize,
      textPlaces: config.maxPromptTokens, tokenMapChannels: config.tokenMapChannels,
    },
    flowHead: { file: FLOW_HEAD_FILE, weights: weights.transformer },
    decoder: { file: DECODER_FILE, weights: weights.decoder },
    defaults: recipe.defaults,
    metrics: recipe.metrics,
  };
}
