import { existsSync } from "node:fs";
import { join } from "node:path";
import type { GenerationConfig } from "#libs/bundle/manifest.js";
import { Fields } from "#libs/json/fields.js";

const FILE = "generation_config.json";

/**
 * How a checkpoint's `generation_config.json` would have it sampled, as far as a bundle records it; undefined without the file.
 * @throws mismatch naming a field out of range.
 */
export async function readGenerationConfig(folder: string): Promise<GenerationConfig | undefined> {
  const path = join(folder, FILE);
  if (!existsSync(path)) return undefined;
  const fields = await Fields.fromFile(path);
  return {
    ...(fields.has("repetition_penalty") && { repetitionPenalty: fields.number("repetition_penalty", 0.01, 100) }),
    ...(fields.has("temperature") && { temperature: fields.number("temperature", 0, 100) }),
    ...(fields.has("top_k") && { topK: fields.integer("top_k", 0) }),
    ...(fields.has("top_p") && { topP: fields.number("top_p", 0, 1) }),
  };
}
