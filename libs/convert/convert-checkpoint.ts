import { join } from "node:path";
import type { Bundle } from "#libs/bundle/bundle.js";
import { Fields } from "#libs/json/fields.js";
import { convertStages } from "./convert-stages.js";
import { convert, type ConvertOptions } from "./convert.js";

/** Turn a checkpoint of either family into a model bundle: its `config.json` says which it is. @throws as the family's own. */
export async function convertCheckpoint(options: ConvertOptions): Promise<Bundle> {
  const config = await Fields.fromFile(join(options.lmFolder, "config.json"));
  return config.oneOf("model_type", ["qwen2", "ecar"]) === "ecar" ? convertStages(options) : convert(options);
}
