import { invalidRequest } from "#libs/errors/errors.js";
import type { DecodeTextRequest, EncodeRequest } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { MAX_DECODE_TEXT_TOKENS, MAX_PROMPT_BYTES } from "#libs/rpc/limits.js";

/** An `EncodeRequest` that keeps its rules, except for the number of text tokens. */
export interface ValidEncodeRequest {
  readonly prompt: string;
  readonly negativePrompt?: string;
}

/** Lone surrogates, and U+FFFD: what encoders and decoders put where text was not Unicode. */
const NOT_UNICODE = /[\p{Surrogate}\ufffd]/u;

/** @throws AppError "invalid-request" naming the field; the text itself is never in the message. */
export function validEncodeRequest(request: EncodeRequest): ValidEncodeRequest {
  const { prompt, negativePrompt } = request;
  checkText("prompt", prompt);
  if (negativePrompt === undefined) return { prompt };
  checkText("negative_prompt", negativePrompt);
  return { prompt, negativePrompt };
}

/**
 * Hold an encoded prompt against the bundle's limit.
 * @throws AppError "invalid-request" naming the field, the limit and the count.
 */
export function checkTokenCount(field: string, tokens: readonly number[], maxPromptTokens: number): void {
  if (tokens.length > maxPromptTokens) {
    throw invalidRequest(field, `at most ${maxPromptTokens} text tokens long, template included`, tokens.length);
  }
}

/**
 * The text tokens of a `DecodeTextRequest`.
 * @param exists whether the vocabulary has an id.
 * @throws AppError "invalid-request" naming the first id that it has not.
 */
export function validTextTokens(
  request: DecodeTextRequest, vocabularySize: number, exists: (token: number) => boolean,
): readonly number[] {
  const { tokens } = request;
  if (tokens.length > MAX_DECODE_TEXT_TOKENS) {
    throw invalidRequest("tokens", `at most ${MAX_DECODE_TEXT_TOKENS} ids`, tokens.length);
  }
  const index = tokens.findIndex((token) => token >= vocabularySize || !exists(token));
  if (index >= 0) throw invalidRequest(`tokens[${index}]`, `a text token, 0 .. ${vocabularySize - 1}`, tokens[index]);
  return tokens;
}

function checkText(field: string, text: string): void {
  if (text.trim() === "") throw invalidRequest(field, "text that is not blank");
  if (NOT_UNICODE.test(text)) throw invalidRequest(field, "valid Unicode without lone surrogates or U+FFFD");
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_PROMPT_BYTES) throw invalidRequest(field, `at most ${MAX_PROMPT_BYTES} bytes of UTF-8`, bytes);
}
