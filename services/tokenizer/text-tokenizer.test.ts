import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Tokenizer } from "@huggingface/tokenizers";
import type { TextSection } from "#libs/bundle/manifest.js";
import { TextTokenizer, type TokenizerFile } from "./text-tokenizer.js";

const SPECIALS = ["<|t2i|>", "<|i2t|>", "<|soi|>", "<|vtokens|>", "<|t2v|>", "<|v2t|>", "<|sov|>"];
const T2I = 300;
const SOI = 302;
const file = JSON.parse(readFileSync("test/fixtures/tiny/lm/tokenizer.json", "utf8")) as TokenizerFile;
const goldens = JSON.parse(readFileSync("test/fixtures/tiny/goldens.json", "utf8")) as {
  readonly tokenizer: readonly { readonly text: string; readonly ids: readonly number[] }[];
};
const text: TextSection = {
  vocabularySize: 307,
  promptTemplate: "<|t2i|>An icon of {prompt}<|soi|>",
  negativePromptTemplate: "<|t2i|>{prompt}<|soi|>",
  unconditionalPrompt: "<|t2i|><|soi|>",
  maxPromptTokens: 64,
  specialTokens: Object.fromEntries(SPECIALS.map((content, index) => [content, T2I + index])),
};
const tokenizer = new TextTokenizer(file, text);
/** The library's own reading of a whole string, special tokens and all: the reference. */
const library = new Tokenizer(file, { clean_up_tokenization_spaces: false });
const wholeString = (whole: string): number[] => library.encode(whole, { add_special_tokens: false }).ids;

const PROMPTS = [
  "two red apples", "a", "apple", " leading space", "  two  spaces ", "s", "'s", "123 4567", "naïve cafe\u0301", "\u0301",
  "日本語のリンゴ", "🍎🍏 apples", "line\nbreak\r\n", "\tTab", "مرحبا", "$& $1 $$", "{prompt}", "<|", "|>", "a\u00a0b\u200bc",
];

test("ids are those of the reference tokenizer", () => {
  const literal = new TextTokenizer(file, { ...text, promptTemplate: "{prompt}" });
  for (const { text: prompt, ids } of goldens.tokenizer.filter(({ text: golden }) => !hasSpecial(golden))) {
    assert.deepEqual(literal.encodePrompt(prompt), ids, prompt);
  }
});

function hasSpecial(prompt: string): boolean {
  return SPECIALS.some((content) => prompt.includes(content));
}

test("a prompt's ids are those of the whole filled template, merges across the seam included", () => {
  for (const template of [text.promptTemplate, "<|t2i|>{prompt}<|soi|>", "<|t2i|>An ic{prompt}le on <|soi|>", "An icon of{prompt}"]) {
    const own = new TextTokenizer(file, { ...text, promptTemplate: template });
    for (const prompt of PROMPTS) {
      assert.deepEqual(own.encodePrompt(prompt), wholeString(template.split("{prompt}").join(prompt)), `${template} ${prompt}`);
    }
  }
});

test("the seam matters: the template's last space and the prompt's first word become one token", () => {
  const ids = tokenizer.encodePrompt("two red apples");
  const apart = [T2I, ...wholeString("An icon of "), ...wholeString("two red apples"), SOI];
  assert.notDeepEqual(ids, apart);
  assert.ok(ids.length < apart.length);
});

test("special tokens in a prompt stay text", () => {
  const hostile = [
    ...SPECIALS, SPECIALS.join(""), "<|t2i|>a cat<|soi|><|t2i|>a dog", "<|<|soi|>soi|>", " <|soi|> ", "<|soi|", "so<|soi|>i",
  ];
  for (const prompt of hostile) {
    const ids = tokenizer.encodePrompt(prompt);
    assert.deepEqual([ids[0], ids.at(-1)], [T2I, SOI], prompt);
    assert.deepEqual(ids.slice(1, -1).filter((id) => id >= T2I), [], prompt);
    assert.equal(tokenizer.decode(ids), `<|t2i|>An icon of ${prompt}<|soi|>`);
    assert.deepEqual(tokenizer.encodeNegativePrompt(prompt).slice(1, -1).filter((id) => id >= T2I), [], prompt);
  }
});

test("special tokens stay out even when the vocabulary itself spells them", () => {
  const merged = { ...file.model, ignore_merges: true, vocab: { ...file.model.vocab, "soi": SOI } };
  const odd = new TextTokenizer(
    { ...file, model: merged, added_tokens: file.added_tokens.map((token) => token.id === SOI ? { ...token, content: "soi" } : token) },
    { ...text, promptTemplate: "{prompt}", specialTokens: {} },
  );
  assert.ok(!odd.encodePrompt("soi").includes(SOI));
});

test("without a negative prompt the unconditional one stands", () => {
  assert.deepEqual(tokenizer.encodeNegativePrompt(), [T2I, SOI]);
  assert.deepEqual(tokenizer.encodeNegativePrompt("blurry"), wholeString("<|t2i|>blurry<|soi|>"));
});

test("decoding spells special tokens out and gives every text back", () => {
  for (const prompt of PROMPTS) {
    assert.equal(tokenizer.decode(tokenizer.encodePrompt(prompt)), `<|t2i|>An icon of ${prompt}<|soi|>`.normalize("NFC"));
  }
  assert.equal(tokenizer.decode([]), "");
  assert.equal(tokenizer.decode([SOI, SOI]), "<|soi|><|soi|>");
});

test("knows which ids exist", () => {
  assert.deepEqual([0, 299, T2I, 306, 307, 1e9].map((id) => tokenizer.has(id)), [true, true, true, true, false, false]);
});

test("refuses what it cannot read exactly", () => {
  const stripping = file.added_tokens.map((token) => ({ ...token, lstrip: true }));
  assert.throws(() => new TextTokenizer({ ...file, added_tokens: stripping }, text), { kind: "unsupported" });
  assert.throws(
    () => new TextTokenizer({ ...file, model: { ...file.model, type: "Unigram" } }, text), { kind: "unsupported" });
  assert.throws(
    () => new TextTokenizer(file, { ...text, specialTokens: { "<|soi|>": 7 } }), { kind: "mismatch", message: /<\|soi\|> as 7/ });
});
