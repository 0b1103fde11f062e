import { Tokenizer } from "@huggingface/tokenizers";
import type { TextSection } from "#libs/bundle/manifest.js";
import { mismatch, unsupported } from "#libs/errors/errors.js";

/** The parts of a Hugging Face `tokenizer.json` that are read here; the library reads the rest. */
export interface TokenizerFile {
  readonly model: { readonly type?: string; readonly vocab: Readonly<Record<string, number>> };
  readonly added_tokens: readonly AddedToken[];
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

/** A template cut at its special tokens: each part is one special token's id, or literal text. */
type Template = readonly (number | string)[];

const PROMPT_PLACE = "{prompt}";

/**
 * Text to text tokens through the bundle's templates, and back.
 *
 * Special tokens come from the templates alone. The library's tokenizer is built without them, so that "<|soi|>" in a
 * prompt is seven characters like any others. The literal text around the prompt is encoded together with it, so the
 * result is what encoding the whole filled template gives, merges across the seam included.
 */
export class TextTokenizer {
  readonly #plain: Tokenizer;
  readonly #specialTexts: ReadonlyMap<number, string>;
  readonly #promptTemplate: Template;
  readonly #negativePromptTemplate: Template;
  readonly #unconditionalTemplate: Template;

  /**
   * @param file the parsed `tokenizer.json`; not changed.
   * @throws AppError "unsupported" for other models than BPE or special tokens that strip their neighbours, "mismatch"
   *   when the bundle's special tokens are not those of the file.
   */
  constructor(file: TokenizerFile, text: TextSection) {
    const specials = specialTokens(file, text);
    this.#plain = new Tokenizer(withoutTokens(file, specials), { clean_up_tokenization_spaces: false });
    this.#specialTexts = new Map([...specials].map(([content, id]) => [id, content]));
    this.#promptTemplate = cutAtSpecials(text.promptTemplate, specials);
    this.#negativePromptTemplate = cutAtSpecials(text.negativePromptTemplate, specials);
    this.#unconditionalTemplate = cutAtSpecials(text.unconditionalPrompt, specials);
  }

  /** Text tokens of a prompt, template included. @param prompt well-formed Unicode. */
  encodePrompt(prompt: string): number[] {
    return this.#encode(this.#promptTemplate, prompt);
  }

  /** Text tokens of a negative prompt, template included; of the bundle's unconditional prompt without one. */
  encodeNegativePrompt(negativePrompt?: string): number[] {
    if (negativePrompt === undefined) return this.#encode(this.#unconditionalTemplate, "");
    return this.#encode(this.#negativePromptTemplate, negativePrompt);
  }

  /** Whether a text token exists: vocabularies may have holes. */
  has(token: number): boolean {
    return this.#specialTexts.has(token) || this.#plain.id_to_token(token) !== undefined;
  }

  /** The text of some text tokens, special tokens spelled out. @param tokens each must exist. */
  decode(tokens: readonly number[]): string {
    let text = "";
    let run: number[] = [];
    const endRun = (): void => {
      if (run.length > 0) text += this.#plain.decode(run);
      run = [];
    };
    for (const token of tokens) {
      const special = this.#specialTexts.get(token);
      if (special === undefined) run.push(token);
      else {
        endRun();
        text += special;
      }
    }
    endRun();
    return text;
  }

  #encode(template: Template, prompt: string): number[] {
    return template.flatMap((part) => {
      if (typeof part === "number") return part;
      // split and join, because `replace` would read "$&" in a prompt as a pattern.
      return this.#plain.encode(part.split(PROMPT_PLACE).join(prompt), { add_special_tokens: false }).ids;
    });
  }
}

/** Ids of the special tokens by their text: the file's own and the bundle's, which must agree. */
function specialTokens(file: TokenizerFile, text: TextSection): ReadonlyMap<string, number> {
  if (file.model.type !== "BPE") throw unsupported(`tokenizer.json holds a ${file.model.type} model; only BPE is supported`);
  const named = file.added_tokens.filter(({ special, content }) => special || content in text.specialTokens);
  const stripping = named.find(({ lstrip, rstrip }) => lstrip || rstrip);
  if (stripping !== undefined) throw unsupported(`special token ${stripping.content} strips its neighbours`);
  const specials = new Map(named.map(({ content, id }) => [content, id]));
  for (const [content, id] of Object.entries(text.specialTokens)) {
    if (specials.get(content) !== id) throw mismatch(`tokenizer.json does not have special token ${content} as ${id}`);
  }
  return specials;
}

/** The same file as if it had never heard of some tokens. */
function withoutTokens(file: TokenizerFile, tokens: ReadonlyMap<string, number>): TokenizerFile {
  const vocab = { ...file.model.vocab };
  for (const content of tokens.keys()) delete vocab[content];
  return {
    ...file,
    model: { ...file.model, vocab },
    added_tokens: file.added_tokens.filter(({ content }) => !tokens.has(content)),
  };
}

/** Cut at the special tokens; at one place the longest wins, as in the library. */
function cutAtSpecials(template: string, specials: ReadonlyMap<string, number>): Template {
  if (specials.size === 0) return [template];
  const longestFirst = [...specials.keys()].sort((a, b) => b.length - a.length);
  const pattern = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|");
  return template.split(new RegExp(`(${pattern})`)).filter((part) => part !== "")
    .map((part) => specials.get(part) ?? part);
}
