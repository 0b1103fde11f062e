import { mismatch } from "#libs/errors/errors.js";

/** The ids of a tokenizer. */
export interface TextVocabulary {
  /** Number of ids, special tokens included; they are 0 .. size - 1. */
  readonly size: number;
  /** Special tokens by their text. */
  readonly specialTokens: Readonly<Record<string, number>>;
}

/** What frames every prompt of a SimpleAR model. */
const REQUIRED = ["<|t2i|>", "<|soi|>"];

const LABEL = "tokenizer.json";

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/**
 * The vocabulary of a Hugging Face `tokenizer.json`: of its model and of the tokens added to it.
 * @throws mismatch if it is malformed, has gaps, or lacks the tokens that frame a prompt.
 */
export function parseTextVocabulary(text: string): TextVocabulary {
  const { vocabulary, added } = parseIds(text);
  const ids = new Set([...Object.values(vocabulary), ...added.map((token) => token.id)]);
  const gap = Array.from({ length: ids.size }, (_, id) => id).find((id) => !ids.has(id));
  if (gap !== undefined) throw mismatch(`${LABEL}: ids must have no gaps, ${gap} is missing among ${ids.size}`);
  const special = added.filter((token) => token.special);
  const specialTokens = Object.fromEntries(special.map((token) => [token.content, token.id]));
  const missing = REQUIRED.find((token) => !Object.hasOwn(specialTokens, token));
  if (missing !== undefined) throw mismatch(`${LABEL}: special token ${missing} is missing`);
  return { size: ids.size, specialTokens };
}

function parseIds(text: string): { readonly vocabulary: Readonly<Record<string, number>>; readonly added: readonly AddedToken[] } {
  try {
    const parsed = JSON.parse(text) as { model: { vocab: Record<string, number> }; added_tokens: AddedToken[] };
    const vocabulary = parsed.model.vocab;
    const added = parsed.added_tokens;
    const isValid = [...Object.values(vocabulary), ...added.map((token) => token.id)].every((id) => Number.isSafeInteger(id) && id >= 0);
    if (isValid) return { vocabulary, added };
  } catch {
    // Falls to the error below: the file is no JSON, or lacks a part.
  }
  throw mismatch(`${LABEL}: must be a Hugging Face tokenizer with \`model.vocab\` and \`added_tokens\``);
}
