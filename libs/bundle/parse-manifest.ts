import { codebookSize } from "#libs/fsq/fsq.js";
import { Fields } from "#libs/json/fields.js";
import type { GenerationConfig, ImageSection, Manifest, SamplingDefaults, TokenManifest, TransformerSection } from "./manifest.js";
import {
  checkRules, fileRules, finished, imageRules, LABEL, parseGraph, parseHead, parseImageSize, parseTail, WEIGHT_TYPES, type Rule,
} from "./parse-sections.js";
import { parseStageManifest } from "./parse-stage-manifest.js";

/**
 * Check all of a `model.json`, each field by itself and against the others.
 * @throws mismatch naming the field, its rule and its value.
 */
export function parseManifest(value: unknown): Manifest {
  const fields = new Fields(LABEL, value);
  const family = fields.oneOf("family", ["simplear", "ecar"]);
  const manifest = family === "ecar" ? parseStageManifest(fields) : parseTokenManifest(fields);
  fields.finish();
  return manifest;
}

function parseTokenManifest(fields: Fields): TokenManifest {
  const manifest: TokenManifest = {
    ...parseHead(fields, "simplear"),
    image: finished(fields.object("image"), parseImage),
    transformer: finished(fields.object("transformer"), parseTransformer),
    decoder: finished(fields.object("decoder"), parseGraph),
    ...(fields.has("encoder") && { encoder: finished(fields.object("encoder"), parseGraph) }),
    defaults: finished(fields.object("defaults"), parseDefaults),
    ...(fields.has("generationConfig") && { generationConfig: finished(fields.object("generationConfig"), parseGenerationConfig) }),
    ...parseTail(fields),
  };
  checkTogether(fields, manifest);
  return manifest;
}

/** Ranges that a request's settings must keep too; top-k is bounded by the codebook as well. */
export function parseDefaults(fields: Fields): SamplingDefaults {
  const topP = fields.number("topP", 0, 1);
  if (topP === 0) throw fields.refuse("topP", "> 0", topP);
  return {
    guidanceScale: fields.number("guidanceScale", 1, 100),
    temperature: fields.number("temperature", 0, 100),
    topK: fields.integer("topK", 0),
    topP,
  };
}

function parseGenerationConfig(fields: Fields): GenerationConfig {
  return {
    ...(fields.has("repetitionPenalty") && { repetitionPenalty: fields.number("repetitionPenalty", 0.01, 100) }),
    ...(fields.has("temperature") && { temperature: fields.number("temperature", 0, 100) }),
    ...(fields.has("topK") && { topK: fields.integer("topK", 0) }),
    ...(fields.has("topP") && { topP: fields.number("topP", 0, 1) }),
  };
}

function parseImage(fields: Fields): ImageSection {
  return {
    ...parseImageSize(fields),
    levels: fields.integers("levels", 2),
    codebookSize: fields.integer("codebookSize", 2),
    tokenOffset: fields.integer("tokenOffset", 0),
  };
}

function parseTransformer(fields: Fields): TransformerSection {
  return {
    file: fields.string("file"),
    weights: fields.oneOf("weights", WEIGHT_TYPES),
    layers: fields.integer("layers", 1),
    hiddenSize: fields.integer("hiddenSize", 1),
    heads: fields.integer("heads", 1),
    keyValueHeads: fields.integer("keyValueHeads", 1),
    headSize: fields.integer("headSize", 2),
    maxPositions: fields.integer("maxPositions", 1),
  };
}

function checkTogether(fields: Fields, { text, image, transformer, decoder, encoder, defaults, files }: TokenManifest): void {
  const rules: readonly Rule[] = [
    ["image.codebookSize", image.codebookSize === codebookSize(image.levels), "the product of image.levels", image.codebookSize],
    ["image.tokenOffset", image.tokenOffset === text.vocabularySize, "text.vocabularySize", image.tokenOffset],
    ...imageRules(image),
    [
      "transformer.keyValueHeads", transformer.heads % transformer.keyValueHeads === 0, "a divisor of transformer.heads",
      transformer.keyValueHeads,
    ],
    ["defaults.topK", defaults.topK <= image.codebookSize, "at most image.codebookSize", defaults.topK],
    [
      "transformer.maxPositions", text.maxPromptTokens + image.gridHeight * image.gridWidth <= transformer.maxPositions,
      "at least text.maxPromptTokens plus a whole image", transformer.maxPositions,
    ],
    ...fileRules(files, [transformer, decoder, ...(encoder ? [encoder] : [])]),
  ];
  checkRules(fields, rules);
}
