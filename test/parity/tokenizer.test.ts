import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { Tokenizer } from "@huggingface/tokenizers";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { readGoldenFacts } from "#test/fixtures/goldens.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

test("text ids are the reference's, from the bundle's tokenizer.json alone", async () => {
  const { tokenizer: goldens, vocabularySize } = await readGoldenFacts();
  const bundle = await openTokenBundle(await tinyBundle());
  const tokenizer = new Tokenizer(JSON.parse(await readFile(bundle.path("tokenizer.json"), "utf8")), {});
  for (const { text, ids } of goldens) {
    assert.deepEqual(tokenizer.encode(text, { add_special_tokens: false }).ids, ids, JSON.stringify(text));
  }
  assert.equal(bundle.manifest.text.vocabularySize, vocabularySize);
  assert.equal(bundle.manifest.image.tokenOffset, vocabularySize);
});
