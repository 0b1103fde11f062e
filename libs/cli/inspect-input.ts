import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { TokenManifest } from "#libs/bundle/manifest.js";
import { invalidRequest, mismatch } from "#libs/errors/errors.js";

/** A prompt and the image tokens that are forced after it, all as the transformer's ids. */
export interface ForcedIds {
  readonly ids: readonly number[];
  /** How many of them are the prompt; at least 1. */
  readonly promptLength: number;
}

/**
 * Ids for teacher forcing: `{"prompt": [...], "tokens": [...]}`, or one list of the transformer's own ids, whose prompt ends
 * with its last text id.
 * @throws mismatch if the file is missing or holds something else; invalid-request for ids out of range or too many.
 */
export async function readForcedIds(file: string, { image, text, transformer }: TokenManifest): Promise<ForcedIds> {
  const value = await readJson(file);
  const limit = image.tokenOffset + image.codebookSize;
  let forced: ForcedIds;
  if (Array.isArray(value)) {
    const ids = checkIds("--ids", value, limit);
    forced = { ids, promptLength: ids.findLastIndex((id) => id < image.tokenOffset) + 1 };
  } else {
    const { prompt, tokens = [] } = value as { readonly prompt?: unknown; readonly tokens?: unknown };
    const textIds = checkIds("--ids prompt", prompt, text.vocabularySize);
    const imageIds = checkIds("--ids tokens", tokens, image.codebookSize).map((token) => image.tokenOffset + token);
    forced = { ids: [...textIds, ...imageIds], promptLength: textIds.length };
  }
  if (forced.promptLength === 0) throw invalidRequest("--ids", "a prompt of at least one text id");
  if (forced.ids.length > transformer.maxPositions) {
    throw invalidRequest("--ids", `at most ${transformer.maxPositions} positions`, forced.ids.length);
  }
  return forced;
}

/**
 * Image tokens row by row: a list, or an object with the list as `tokens`.
 * @throws mismatch if the file is missing or holds something else; invalid-request for tokens out of range or too few.
 */
export async function readImageTokens(
  file: string, { image }: TokenManifest, [height, width]: readonly [height: number, width: number],
): Promise<readonly number[]> {
  const value = await readJson(file);
  const tokens = checkIds("--tokens", Array.isArray(value) ? value : (value as { tokens?: unknown }).tokens, image.codebookSize);
  if (tokens.length !== height * width) throw invalidRequest("--tokens", `${height} x ${width} image tokens`, tokens.length);
  return tokens;
}

function checkIds(field: string, value: unknown, limit: number): readonly number[] {
  if (!Array.isArray(value)) throw invalidRequest(field, "a list of whole numbers", typeof value);
  const wrong = value.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= limit);
  if (wrong >= 0) throw invalidRequest(`${field}[${wrong}]`, `a whole number 0 .. ${limit - 1}`, JSON.stringify(value[wrong]));
  return value as readonly number[];
}

async function readJson(file: string): Promise<object> {
  const text = await readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw mismatch(`${file} cannot be read: ${cause.code ?? cause.message}`);
  });
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Falls to the error below.
  }
  throw mismatch(`${basename(file)}: must be a JSON list or object`);
}
