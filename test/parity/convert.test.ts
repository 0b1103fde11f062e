import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openBundle } from "#libs/bundle/bundle.js";
import { convert } from "#libs/convert/convert.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";

const COMMAND = fileURLToPath(import.meta.resolve("#libs/cli/convert.js"));
const DECODER = join(TINY_FOLDER, "decoder.jit");

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-convert-"));
});
after(() => rm(folder, { recursive: true }));

/** Run the command to its end. */
function run(...args: readonly string[]): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [COMMAND, ...args], (_, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }));
  });
}

test("the command writes a bundle that opens, the same twice", async () => {
  const digests: string[] = [];
  for (const name of ["one", "two"]) {
    const out = join(folder, name);
    const { code, stdout, stderr } = await run("--lm", join(TINY_FOLDER, "lm"), "--decoder", DECODER, "--out", out, "--weights", "int8");
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^tiny \(int8\) in .*\n  decoder\.onnx +0\.\d\d MB\n  tokenizer\.json +0\.01 MB\n  transformer\.onnx /);
    const bundle = await openBundle(out);
    assert.equal(bundle.manifest.decoder.weights, "fp16");
    digests.push(bundle.digest);
  }
  assert.equal(digests[0], digests[1]);
});

test("without tessera.json the folder gives the name, flags what they say, and SimpleAR the rest", async () => {
  const lm = join(folder, "SimpleAR-0.5B");
  await cp(join(TINY_FOLDER, "lm"), lm, { recursive: true });
  await rm(join(lm, "tessera.json"));
  const options = { lmFolder: lm, decoderFile: DECODER, outFolder: join(folder, "plain-bundle"), weights: "fp32" } as const;
  const { manifest } = await convert(options);
  assert.equal(manifest.name, "SimpleAR-0.5B");
  assert.deepEqual([manifest.image.gridHeight, manifest.image.gridWidth, manifest.image.height, manifest.image.width], [64, 64, 512, 512]);
  assert.equal(manifest.text.promptTemplate, "<|t2i|>A highly realistic image of {prompt}<|soi|>");
  assert.deepEqual(manifest.defaults, { guidanceScale: 6, temperature: 1, topK: 0, topP: 1 });
  let read = 0;
  const onProgress = (doneBytes: number, totalBytes: number): void => void (read = doneBytes / totalBytes);
  const tooLarge = convert({ ...options, outFolder: join(folder, "large"), grid: [200, 200], onProgress });
  await assert.rejects(tooLarge, { kind: "mismatch", message: /maxPositions/ });
  assert.ok(read < 0.1, `${read} of the weights were read before`);
  const named = await convert({ ...options, outFolder: join(folder, "named-bundle"), name: "plain", grid: [3, 5] });
  const { image } = named.manifest;
  assert.deepEqual([named.manifest.name, image.gridHeight, image.gridWidth, image.height, image.width], ["plain", 3, 5, 24, 40]);
});

test("the checkpoint's generation_config.json is recorded and changes no default", async () => {
  const lm = join(folder, "sampled");
  await cp(join(TINY_FOLDER, "lm"), lm, { recursive: true });
  const save = (config: object): Promise<void> => writeFile(join(lm, "generation_config.json"), JSON.stringify(config));
  const options = { lmFolder: lm, decoderFile: DECODER, outFolder: join(folder, "sampled-bundle"), weights: "fp32" } as const;
  await save({ repetition_penalty: 0 });
  await assert.rejects(convert(options), {
    kind: "mismatch", message: "generation_config.json: `repetition_penalty` must be a number 0.01 .. 100, got 0",
  });
  await save({ do_sample: true, eos_token_id: [5, 6], repetition_penalty: 1.1, temperature: 0.7, top_k: 20, top_p: null });
  const { manifest } = await convert(options);
  assert.deepEqual(manifest.generationConfig, { repetitionPenalty: 1.1, temperature: 0.7, topK: 20 });
  assert.deepEqual(manifest.defaults, { guidanceScale: 3, temperature: 1, topK: 0, topP: 1 });
});

test("a vocabulary that is not text plus codebook is refused and leaves nothing behind", async () => {
  const lm = join(folder, "wide");
  await cp(join(TINY_FOLDER, "lm"), lm, { recursive: true });
  const config = JSON.parse(await readFile(join(lm, "config.json"), "utf8")) as object;
  await writeFile(join(lm, "config.json"), JSON.stringify({ ...config, vocab_size: 344 }));
  const before = await readdir(folder);
  const { code, stderr } = await run("--lm", lm, "--decoder", DECODER, "--out", join(folder, "never"));
  assert.equal(code, 1);
  assert.match(stderr, /^error: config\.json: `vocab_size` must be 307 text tokens plus 36 image tokens, got 344$/m);
  assert.deepEqual(await readdir(folder), before);
});

test("a tokenizer without the seven special tokens, with gaps or with one id for two is refused", async () => {
  const lm = join(folder, "gaps");
  await cp(join(TINY_FOLDER, "lm"), lm, { recursive: true });
  const tokenizer = JSON.parse(await readFile(join(lm, "tokenizer.json"), "utf8")) as { added_tokens: { content: string; id: number }[] };
  const options = { lmFolder: lm, decoderFile: DECODER, outFolder: join(folder, "never"), weights: "fp32" } as const;
  const save = (added: readonly object[]): Promise<void> =>
    writeFile(join(lm, "tokenizer.json"), JSON.stringify({ ...tokenizer, added_tokens: added }));
  await save(tokenizer.added_tokens.map((token) => ({ ...token, content: token.content.replace("soi", "xxx") })));
  await assert.rejects(convert(options), { message: "tokenizer.json: special token <|soi|> is missing" });
  await save(tokenizer.added_tokens.map((token) => ({ ...token, content: token.content.replace("sov", "xxx") })));
  await assert.rejects(convert(options), { message: "tokenizer.json: special token <|sov|> is missing" });
  await save([...tokenizer.added_tokens, { id: 5, content: "<|other|>", special: true }]);
  await assert.rejects(convert(options), { message: "tokenizer.json: id 5 must be one token's, got two" });
  await save(tokenizer.added_tokens.filter((token) => token.content !== "<|t2i|>"));
  await assert.rejects(convert(options), { message: "tokenizer.json: ids must have no gaps, 300 is missing among 306" });
  await writeFile(join(lm, "tokenizer.json"), "{}");
  await assert.rejects(convert(options), { message: /^tokenizer\.json: must be a Hugging Face tokenizer/ });
});

test("wrong command lines name the flag", async () => {
  const given = ["--lm", join(TINY_FOLDER, "lm"), "--decoder", DECODER, "--out", join(folder, "never")];
  const cases: readonly (readonly [args: readonly string[], message: RegExp])[] = [
    [[], /^error: `--lm` must be given\n/],
    [[...given, "--weights", "int3"], /^error: `--weights` must be fp32 or fp16 or int8 or int4, got "int3"\n/],
    [[...given, "--grid", "4"], /^error: `--grid` must be rows x columns such as 64x64, got "4"\n/],
    [[...given, "--colour"], /^error: .*--colour/],
    [given.with(5, folder), /^error: `out` must be a folder that does not exist yet/m],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await run(...args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, message);
  }
  assert.match((await run("--help")).stdout, /npm run convert -- --lm DIR/);
});

test("an aborted conversion leaves nothing behind", async () => {
  const before = await readdir(folder);
  const options = { lmFolder: join(TINY_FOLDER, "lm"), decoderFile: DECODER, outFolder: join(folder, "never"), weights: "fp32" } as const;
  await assert.rejects(convert({ ...options, signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.deepEqual(await readdir(folder), before);
});
