import { codebookSize } from "#libs/fsq/fsq.js";
import { Fields } from "#libs/json/fields.js";
import type {
  DecoderSection, EncoderSection, FileEntry, GenerationConfig, ImageSection, Manifest, SamplingDefaults, TextSection, TransformerSection,
  WeightType,
} from "./manifest.js";

const LABEL = "model.json";
const WEIGHT_TYPES: readonly WeightType[] = ["fp32", "fp16", "int8", "int4"];
const PLACEHOLDER = "{prompt}";

/**
 * Check all of a `model.json`, each field by itself and against the others.
 * @throws mismatch naming the field, its rule and its value.
 */
export function parseManifest(value: unknown): Manifest {
  const fields = new Fields(LABEL, value);
  const manifest: Manifest = {
    formatVersion: fields.oneOf("formatVersion", [1]),
    name: fields.string("name"),
    family: fields.oneOf("family", ["simplear"]),
    licence: fields.string("licence"),
    provenance: fields.record("provenance", "string"),
    text: finished(fields.object("text"), parseText),
    image: finished(fields.object("image"), parseImage),
    transformer: finished(fields.object("transformer"), parseTransformer),
    decoder: finished(fields.object("decoder"), parseGraph),
    ...(fields.has("encoder") && { encoder: finished(fields.object("encoder"), parseGraph) }),
    defaults: finished(fields.object("defaults"), parseDefaults),
    ...(fields.has("generationConfig") && { generationConfig: finished(fields.object("generationConfig"), parseGenerationConfig) }),
    files: parseFiles(fields.object("files")),
    metrics: fields.record("metrics", "number"),
  };
  fields.finish();
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

/** A template: a text that holds `{prompt}` once. */
export function parseTemplate(fields: Fields, name: string): string {
  const template = fields.string(name);
  if (template.split(PLACEHOLDER).length !== 2) throw fields.refuse(name, `a text that holds ${PLACEHOLDER} once`, template);
  return template;
}

function finished<T>(fields: Fields, parse: (fields: Fields) => T): T {
  const value = parse(fields);
  fields.finish();
  return value;
}

function parseText(fields: Fields): TextSection {
  const vocabularySize = fields.integer("vocabularySize", 1);
  const specialTokens = fields.record("specialTokens", "number");
  for (const [text, id] of Object.entries(specialTokens)) {
    const isValid = Number.isInteger(id) && id >= 0 && id < vocabularySize;
    if (!isValid) throw fields.refuse(`specialTokens.${text}`, `a whole number in 0 .. ${vocabularySize - 1}`, id);
  }
  return {
    vocabularySize,
    promptTemplate: parseTemplate(fields, "promptTemplate"),
    negativePromptTemplate: parseTemplate(fields, "negativePromptTemplate"),
    unconditionalPrompt: fields.string("unconditionalPrompt"),
    maxPromptTokens: fields.integer("maxPromptTokens", 1),
    specialTokens,
  };
}

function parseImage(fields: Fields): ImageSection {
  return {
    height: fields.integer("height", 1),
    width: fields.integer("width", 1),
    gridHeight: fields.integer("gridHeight", 1),
    gridWidth: fields.integer("gridWidth", 1),
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

function parseGraph(fields: Fields): DecoderSection & EncoderSection {
  return { file: fields.string("file"), weights: fields.oneOf("weights", WEIGHT_TYPES) };
}

function parseFiles(fields: Fields): Readonly<Record<string, FileEntry>> {
  return Object.fromEntries(fields.names().map((name) => {
    if (!/^[\w-][\w.-]*$/.test(name) || name === LABEL) throw fields.refuse(name, "under a plain file name", name);
    const entry = fields.object(name);
    const sha256 = entry.string("sha256");
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw entry.refuse("sha256", "64 lower-case hexadecimal digits", sha256);
    const bytes = entry.integer("bytes", 0);
    entry.finish();
    return [name, { sha256, bytes }];
  }));
}

function checkTogether(fields: Fields, { text, image, transformer, decoder, encoder, defaults, files }: Manifest): void {
  const rules: readonly (readonly [field: string, holds: boolean, rule: string, value: unknown])[] = [
    ["image.codebookSize", image.codebookSize === codebookSize(image.levels), "the product of image.levels", image.codebookSize],
    ["image.tokenOffset", image.tokenOffset === text.vocabularySize, "text.vocabularySize", image.tokenOffset],
    ["image.height", image.height % image.gridHeight === 0, "a multiple of image.gridHeight", image.height],
    ["image.width", image.width % image.gridWidth === 0, "a multiple of image.gridWidth", image.width],
    [
      "transformer.keyValueHeads", transformer.heads % transformer.keyValueHeads === 0, "a divisor of transformer.heads",
      transformer.keyValueHeads,
    ],
    ["defaults.topK", defaults.topK <= image.codebookSize, "at most image.codebookSize", defaults.topK],
    [
      "transformer.maxPositions", text.maxPromptTokens + image.gridHeight * image.gridWidth <= transformer.maxPositions,
      "at least text.maxPromptTokens plus a whole image", transformer.maxPositions,
    ],
    ...["tokenizer.json", transformer.file, decoder.file, ...(encoder ? [encoder.file] : [])].map((file) =>
      [`files.${file}`, Object.hasOwn(files, file), "listed", files[file] ?? null] as const),
  ];
  for (const [field, holds, rule, value] of rules) if (!holds) throw fields.refuse(field, rule, value);
}
