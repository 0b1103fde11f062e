import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import type { SamplingDefaults } from "#libs/bundle/manifest.js";
import type { GuidanceDefaults } from "#libs/bundle/stage-manifest.js";
import { parseDefaults } from "#libs/bundle/parse-manifest.js";
import { parseTemplate } from "#libs/bundle/parse-sections.js";
import { parseGuidanceDefaults } from "#libs/bundle/parse-stage-manifest.js";
import { mismatch } from "#libs/errors/errors.js";
import { Fields } from "#libs/json/fields.js";

/** What a checkpoint's makers say of it that its weights do not. */
export interface Recipe<D = SamplingDefaults> {
  readonly name: string;
  /** SPDX expression. */
  readonly licence: string;
  readonly promptTemplate: string;
  readonly negativePromptTemplate: string;
  readonly unconditionalPrompt: string;
  readonly maxPromptTokens: number;
  readonly defaults: D;
  /** Rows and columns of image tokens. */
  readonly grid: readonly [height: number, width: number];
  readonly provenance: Readonly<Record<string, string>>;
  readonly metrics: Readonly<Record<string, number>>;
}

/** What the caller of the converter says; wins over the recipe. */
export interface RecipeOverrides {
  readonly name?: string;
  readonly grid?: readonly [height: number, width: number];
}

const RECIPE_FILE = "tessera.json";

/**
 * What the published SimpleAR checkpoints were trained and are sampled with. Nothing in a prompt says the size of the image:
 * those of the last two stages of training know rows of 64 tokens only, 1024 pixels.
 * @see wdrink/SimpleAR, generate.py and docs/TRAIN.md
 */
const SIMPLEAR = {
  licence: "Apache-2.0",
  promptTemplate: "<|t2i|>A highly realistic image of {prompt}<|soi|>",
  negativePromptTemplate: "<|t2i|>{prompt}<|soi|>",
  unconditionalPrompt:
    "<|t2i|>An image of aerial view, overexposed, low quality, deformation, a poor composition, bad hands, bad teeth, " +
    "bad eyes, bad limbs, distortion<|soi|>",
  maxPromptTokens: 512,
  defaults: { guidanceScale: 6, temperature: 1, topK: 0, topP: 1 },
  grid: [64, 64],
  provenance: {},
  metrics: {},
} satisfies Omit<Recipe, "name">;

/**
 * The recipe of a checkpoint folder: its `tessera.json`, or what holds for the published SimpleAR checkpoints, under the
 * folder's name.
 * @throws mismatch naming a field of `tessera.json`.
 */
export async function readRecipe(folder: string, overrides: RecipeOverrides): Promise<Recipe> {
  const path = join(folder, RECIPE_FILE);
  if (existsSync(path)) return { ...parseRecipe(await Fields.fromFile(path), parseDefaults), ...overrides };
  return { ...SIMPLEAR, name: basename(resolve(folder)), ...overrides };
}

/** The recipe of an E-CAR checkpoint folder: its `tessera.json`. @throws mismatch naming a field, or the folder without one. */
export async function readStageRecipe(folder: string, { name }: Pick<RecipeOverrides, "name">): Promise<Recipe<GuidanceDefaults>> {
  const path = join(folder, RECIPE_FILE);
  if (!existsSync(path)) throw mismatch(`${folder} has no ${RECIPE_FILE}: nothing else says how its prompts are framed`);
  return { ...parseRecipe(await Fields.fromFile(path), parseGuidanceDefaults), ...(name === undefined ? {} : { name }) };
}

function parseRecipe<D>(fields: Fields, parseOwnDefaults: (fields: Fields) => D): Recipe<D> {
  const grid = fields.integers("grid", 1);
  if (grid.length !== 2) throw fields.refuse("grid", "rows and columns", grid);
  const defaults = fields.object("defaults");
  const recipe: Recipe<D> = {
    name: fields.string("name"),
    licence: fields.string("licence"),
    promptTemplate: parseTemplate(fields, "promptTemplate"),
    negativePromptTemplate: parseTemplate(fields, "negativePromptTemplate"),
    unconditionalPrompt: fields.string("unconditionalPrompt"),
    maxPromptTokens: fields.integer("maxPromptTokens", 1),
    defaults: parseOwnDefaults(defaults),
    grid: [grid[0], grid[1]],
    provenance: fields.record("provenance", "string"),
    metrics: fields.record("metrics", "number"),
  };
  defaults.finish();
  fields.finish();
  return recipe;
}
