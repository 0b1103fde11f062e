import { mismatch } from "#libs/errors/errors.js";

/** The ids of a tokenizer. */
export interface TextVocabulary {
  /** Number of ids, special tokens included; they are 0 .. size - 1. */
  readonly size: number;
  /** Special tokens by their text. */
  readonly specialTokens: Readonly<Record<string, number>>;
}

/**
 * What SimpleAR adds to the tokenizer of its language model; the first and the third frame every prompt.
 * @see wdrink/SimpleAR, train.py
 */
const REQUIRED = ["<|t2i|>", "<|i2t|>", "<|soi|>", "<|vtokens|>", "<|t2v|>", "<|v2t|>", "<|sov|>"];

const LABEL = "tokenizer.json";

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/**
 * The vocabulary of a Hugging Face `tokenizer.json`: of its model and of the tokens added to it.
 * @throws mismatch if it is malformed, has gaps or an id of two texts, or lacks one of the seven special tokens.
 */
export function parseTextVocabulary(text: string): TextVocabulary {
  const { vocabulary, added } = parseTokens(text);
  const textOf = new Map<number, string>();
  for (const [content, id] of [...Object.entries(vocabulary), ...added.map((token) => [token.content, token.id] as const)]) {
    if ((textOf.get(id) ?? content) !== content) throw mismatch(`${LABEL}: id ${id} must be one token's, got two`);
    textOf.set(id, content);
  }
  const gap = Array.from({ length: textOf.size }, (_, id) => id).find((id) => !textOf.has(id));
  if (gap !== undefined) throw mismatch(`${LABEL}: ids must have no gaps, ${gap} is missing among ${textOf.size}`);
  const special = added.filter((token) => token.special);
  const specialTokens = Object.fromEntries(special.map((token) => [token.content, token.id]));
  const missing = REQUIRED.find((token) => !Object.hasOwn(specialTokens, token));
  if (missing !== undefined) throw mismatch(`${LABEL}: special token ${missing} is missing`);
  return { size: textOf.size, specialTokens };
}

interface Tokens {
  readonly vocabulary: Readonly<Record<string, number>>;
  readonly added: readonly AddedToken[];
}

interface TokenizerFile {
  readonly model?: { readonly vocab?: unknown } | null;
  readonly added_tokens?: unknown;
}

function parseTokens(text: string): Tokens {
  const parsed = parseJson(text);
  const vocabulary = parsed?.model?.vocab;
  const added = parsed?.added_tokens;
  const isValid = typeof vocabulary === "object" && vocabulary !== null && Object.values(vocabulary).every(isId)
    && Array.isArray(added) && added.every(isAddedToken);
  if (!isValid) throw mismatch(`${LABEL}: must be a Hugging Face tokenizer with \`model.vocab\` and \`added_tokens\``);
  return { vocabulary: vocabulary as Tokens["vocabulary"], added };
}

/** @returns null for what is no JSON. */
function parseJson(text: string): TokenizerFile | null {
  try {
    return JSON.parse(text) as TokenizerFile;
  } catch {
    return null;
  }
}

function isId(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isAddedToken(value: unknown): value is AddedToken {
  const { id, content, special } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return isId(id) && typeof content === "string" && typeof special === "boolean";
}
