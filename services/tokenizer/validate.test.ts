import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { DecodeTextRequestSchema, EncodeRequestSchema } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { MAX_DECODE_TEXT_TOKENS, MAX_PROMPT_BYTES } from "#libs/rpc/limits.js";
import { checkTokenCount, validEncodeRequest, validTextTokens } from "./validate.js";

test("prompts that keep the rules pass unchanged", () => {
  const longest = "é".repeat(MAX_PROMPT_BYTES / 2);
  assert.deepEqual(validEncodeRequest(create(EncodeRequestSchema, { prompt: longest })), { prompt: longest });
  assert.deepEqual(
    validEncodeRequest(create(EncodeRequestSchema, { prompt: " 🍎", negativePrompt: "blurry" })),
    { prompt: " 🍎", negativePrompt: "blurry" });
});

test("a prompt that breaks a rule is named, with the limit and the value, and never shown", () => {
  const tooLong = `${"x".repeat(MAX_PROMPT_BYTES)}é`;
  const broken: readonly [prompt: string, rule: string][] = [
    ["", "must be text that is not blank"],
    [" \n\t", "must be text that is not blank"],
    ["a\ud800b", "must be valid Unicode without lone surrogates or U+FFFD"],
    ["a \ufffd", "must be valid Unicode without lone surrogates or U+FFFD"],
    ["\udc00", "must be valid Unicode without lone surrogates or U+FFFD"],
    [tooLong, `must be at most ${MAX_PROMPT_BYTES} bytes of UTF-8, got ${MAX_PROMPT_BYTES + 2}`],
  ];
  for (const [prompt, description] of broken) {
    assert.throws(() => validEncodeRequest(create(EncodeRequestSchema, { prompt })), {
      kind: "invalid-request", violations: [{ field: "prompt", description }],
    });
    assert.throws(() => validEncodeRequest(create(EncodeRequestSchema, { prompt: "fine", negativePrompt: prompt })), {
      kind: "invalid-request", violations: [{ field: "negative_prompt", description }],
    });
  }
});

test("too many text tokens are named with the limit and the count", () => {
  checkTokenCount("prompt", [1, 2, 3], 3);
  assert.throws(() => checkTokenCount("prompt", [1, 2, 3, 4], 3), {
    kind: "invalid-request", message: "`prompt` must be at most 3 text tokens long, template included, got 4",
  });
});

test("ids outside the vocabulary are named by their place", () => {
  const exists = (token: number): boolean => token !== 5;
  const request = (...tokens: readonly number[]) => create(DecodeTextRequestSchema, { tokens: [...tokens] });
  assert.deepEqual(validTextTokens(request(0, 9), 10, exists), [0, 9]);
  assert.deepEqual(validTextTokens(request(), 10, exists), []);
  for (const bad of [10, 5, 4294967295]) {
    assert.throws(() => validTextTokens(request(1, bad), 10, exists), {
      kind: "invalid-request", message: `\`tokens[1]\` must be a text token, 0 .. 9, got ${bad}`,
    });
  }
  const many = Array.from({ length: MAX_DECODE_TEXT_TOKENS + 1 }, () => 0);
  assert.throws(() => validTextTokens(request(...many), 10, exists), /`tokens` must be at most 65536 ids, got 65537/);
});
