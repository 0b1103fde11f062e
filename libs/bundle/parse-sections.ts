import type { Fields } from "#libs/json/fields.js";
import type { BundleManifest, DecoderSection, FileEntry, ImageSize, TextSection, WeightType } from "./manifest.js";

// What the manifests of all families have in common, section by section.

/** What errors call the file. */
export const LABEL = "model.json";

/** Every way in which weights are stored. */
export const WEIGHT_TYPES: readonly WeightType[] = ["fp32", "fp16", "int8", "int4"];

const PLACEHOLDER = "{prompt}";

/** What must hold between fields. */
export type Rule = readonly [field: string, holds: boolean, rule: string, value: unknown];

/** @throws mismatch naming the first field whose rule does not hold. */
export function checkRules(fields: Fields, rules: readonly Rule[]): void {
  for (const [field, holds, rule, value] of rules) if (!holds) throw fields.refuse(field, rule, value);
}

/** Read a section to its end. @throws mismatch naming a field that was not read. */
export function finished<T>(fields: Fields, parse: (fields: Fields) => T): T {
  const value = parse(fields);
  fields.finish();
  return value;
}

/** The sections that come first. */
export function parseHead<F extends string>(
  fields: Fields, family: F,
): Omit<BundleManifest, "files" | "metrics"> & { readonly family: F } {
  return {
    formatVersion: fields.oneOf("formatVersion", [1]),
    name: fields.string("name"),
    family,
    licence: fields.string("licence"),
    provenance: fields.record("provenance", "string"),
    text: finished(fields.object("text"), parseText),
  };
}

/** The sections that come last. */
export function parseTail(fields: Fields): Pick<BundleManifest, "files" | "metrics"> {
  return { files: parseFiles(fields.object("files")), metrics: fields.record("metrics", "number") };
}

/** A template: a text that holds `{prompt}` once. */
export function parseTemplate(fields: Fields, name: string): string {
  const template = fields.string(name);
  if (template.split(PLACEHOLDER).length !== 2) throw fields.refuse(name, `a text that holds ${PLACEHOLDER} once`, template);
  return template;
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

/** Sizes of an image; `imageRules` must hold between them. */
export function parseImageSize(fields: Fields): ImageSize {
  return {
    height: fields.integer("height", 1),
    width: fields.integer("width", 1),
    gridHeight: fields.integer("gridHeight", 1),
    gridWidth: fields.integer("gridWidth", 1),
  };
}

/** An image is whole tokens. */
export function imageRules({ height, width, gridHeight, gridWidth }: ImageSize): readonly Rule[] {
  return [
    ["image.height", height % gridHeight === 0, "a multiple of image.gridHeight", height],
    ["image.width", width % gridWidth === 0, "a multiple of image.gridWidth", width],
  ];
}

/** A graph of which nothing else is said. */
export function parseGraph(fields: Fields): DecoderSection {
  return { file: fields.string("file"), weights: fields.oneOf("weights", WEIGHT_TYPES) };
}

/** The tokenizer and all graphs are among the files. */
export function fileRules(files: BundleManifest["files"], graphs: readonly { readonly file: string }[]): readonly Rule[] {
  return ["tokenizer.json", ...graphs.map(({ file }) => file)].map((file) => (
    [`files.${file}`, Object.hasOwn(files, file), "listed", files[file] ?? null]
  ));
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
