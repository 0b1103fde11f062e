import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client as GrpcClient, credentials, status, type ServiceError } from "@grpc/grpc-js";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { Definition } from "#libs/rpc/definition.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import { MAX_PROMPT_BYTES } from "#libs/rpc/limits.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import type { RunningService } from "#libs/rpc/service.js";
import { startTokenizer } from "#services/tokenizer/start.js";
import { readGoldenFacts } from "#test/fixtures/goldens.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

let bundle: TokenBundle;
let tokenizer: RunningService;
let connection: Connection<Definition<(typeof TokenizerService)["method"]>>;

before(async () => {
  bundle = await openTokenBundle(await tinyBundle());
  tokenizer = await startTokenizer({ address: "127.0.0.1:0", bundleFolder: bundle.folder });
  connection = connect(TokenizerService, tokenizer.address);
});

after(async () => {
  connection.close();
  await tokenizer.stop();
});

test("a prompt is encoded through the bundle's templates, under the bundle's digest", async () => {
  const { tokenizer: goldens } = await readGoldenFacts();
  const golden = goldens.find(({ text }) => text === "<|t2i|>An icon of two red apples<|soi|>");
  const { "<|t2i|>": t2i, "<|soi|>": soi } = bundle.manifest.text.specialTokens;
  const encoded = await connection.client.encode({ prompt: "two red apples" });
  assert.deepEqual(encoded.promptTokens, golden?.ids);
  assert.deepEqual(encoded.negativePromptTokens, [t2i, soi]);
  assert.equal(encoded.modelDigest, bundle.digest);
  const { negativePromptTokens } = await connection.client.encode({ prompt: "a", negativePrompt: "<|soi|>" });
  assert.deepEqual([negativePromptTokens[0], negativePromptTokens.at(-1)], [t2i, soi]);
  assert.equal(negativePromptTokens.filter((id) => id >= t2i).length, 2);
});

test("text tokens become text again", async () => {
  const { promptTokens } = await connection.client.encode({ prompt: "日本語 🍎 <|soi|>" });
  const { text } = await connection.client.decodeText({ tokens: promptTokens });
  assert.equal(text, "<|t2i|>An icon of 日本語 🍎 <|soi|><|soi|>");
  assert.equal((await connection.client.decodeText({})).text, "");
});

test("tells what it has loaded", async () => {
  const { model, ...limits } = await connection.client.getTokenizerInfo({});
  const { vocabularySize, maxPromptTokens } = bundle.manifest.text;
  const { $typeName: _message, ...info } = model!;
  assert.deepEqual(info, modelInfoOf(bundle));
  assert.equal(limits.vocabularySize, vocabularySize);
  assert.equal(limits.maxPromptTokens, maxPromptTokens);
  assert.equal(limits.maxPromptBytes, MAX_PROMPT_BYTES);
});

test("what breaks a rule is refused by field, limit and value", async () => {
  const { vocabularySize, maxPromptTokens } = bundle.manifest.text;
  const { client } = connection;
  const refusals: readonly [work: () => Promise<unknown>, field: string, rule: RegExp][] = [
    [() => client.encode({}), "prompt", /not blank/],
    [() => client.encode({ prompt: "a", negativePrompt: " " }), "negative_prompt", /not blank/],
    [() => client.encode({ prompt: "x".repeat(MAX_PROMPT_BYTES + 1) }), "prompt", /at most 16384 bytes of UTF-8, got 16385/],
    [() => client.encode({ prompt: "1".repeat(80) }), "prompt", new RegExp(`at most ${maxPromptTokens} text tokens long, template included, got \\d+`)],
    [() => client.encode({ prompt: "a", negativePrompt: "1".repeat(80) }), "negative_prompt", /at most \d+ text tokens long/],
    [() => client.decodeText({ tokens: [0, vocabularySize] }), "tokens[1]", new RegExp(`got ${vocabularySize}`)],
  ];
  for (const [work, field, rule] of refusals) {
    await assert.rejects(work, (error: { kind: string; violations: { field: string; description: string }[] }) => {
      assert.equal(error.kind, "invalid-request");
      assert.deepEqual(error.violations.map((violation) => violation.field), [field]);
      assert.match(error.violations[0].description, rule);
      return true;
    });
  }
});

test("text that is not Unicode is refused, whether the client lets it out or not", async () => {
  // The client's encoder makes U+FFFD of a lone surrogate.
  await assert.rejects(connection.client.encode({ prompt: "a\ud800" }), { kind: "invalid-request", message: /`prompt` must be valid Unicode/ });
  const client = new GrpcClient(tokenizer.address, credentials.createInsecure());
  try {
    const prompt = Buffer.from([0x0a, 0x02, 0xc3, 0x28]);
    const error = await new Promise<ServiceError | null>((resolve) => {
      client.makeUnaryRequest("/tessera.v1.TokenizerService/Encode", (bytes: Buffer) => bytes, (bytes) => bytes, prompt, resolve);
    });
    assert.equal(error?.code, status.INVALID_ARGUMENT);
    assert.match(error!.details, /must be a valid tessera\.v1\.EncodeRequest/);
  } finally {
    client.close();
  }
});

test("health is honest: serving by name, and gone after a stop", async () => {
  const own = await startTokenizer({ address: "127.0.0.1:0", bundleFolder: bundle.folder });
  const probe = openHealthProbe(own.address, TokenizerService.typeName);
  try {
    assert.equal(await probe.check(), "serving");
    await own.stop();
    await assert.rejects(probe.check(), { kind: "not-ready" });
  } finally {
    probe.close();
    await own.stop();
  }
});

test("a folder that is no bundle is named and leaves no server behind", async () => {
  await assert.rejects(startTokenizer({ address: "127.0.0.1:0", bundleFolder: "/nowhere" }), { kind: "not-found", message: /\/nowhere/ });
});
