import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openBundle, openTokenBundle } from "#libs/bundle/bundle.js";
import { convertCheckpoint } from "#libs/convert/convert-checkpoint.js";
import type { ConvertOptions } from "#libs/convert/convert.js";
import { TINY_STAGE_FOLDER } from "#test/fixtures/tiny-stage-bundle.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-convert-stages-"));
});
after(() => rm(folder, { recursive: true }));

const options = (change: Partial<ConvertOptions> = {}): ConvertOptions => ({
  lmFolder: TINY_STAGE_FOLDER, decoderFile: join(TINY_STAGE_FOLDER, "decoder.jit"), outFolder: join(folder, "never"), weights: "fp32", ...change,
});

/** A copy of the checkpoint with the field at a path, such as `latent/side`, of one of its JSON files set or removed. */
async function changed(file: string, path: string, value: unknown): Promise<string> {
  const copy = await mkdtemp(join(folder, "copy-"));
  await cp(TINY_STAGE_FOLDER, copy, { recursive: true });
  const json = JSON.parse(await readFile(join(copy, file), "utf8")) as Record<string, unknown>;
  const names = path.split("/");
  const owner = names.slice(0, -1).reduce((object, name) => object[name] as Record<string, unknown>, json);
  owner[names.at(-1)!] = value;
  await writeFile(join(copy, file), JSON.stringify(json));
  return copy;
}

test("a checkpoint's config.json says its family; the bundle opens, the same twice, in fp16 half as large", async () => {
  const digests: string[] = [];
  for (const name of ["one", "two"]) digests.push((await convertCheckpoint(options({ outFolder: join(folder, name) }))).digest);
  assert.equal(digests[0], digests[1]);
  const { manifest } = await openBundle(join(folder, "one"));
  assert.deepEqual([manifest.family, manifest.name, manifest.image], ["ecar", "tiny-ecar", { height: 32, width: 32, gridHeight: 4, gridWidth: 4 }]);
  await assert.rejects(openTokenBundle(join(folder, "one")), { kind: "unsupported", message: /continuous tokens/ });
  const half = await convertCheckpoint(options({ outFolder: join(folder, "half"), weights: "fp16", name: "named" }));
  assert.equal(half.manifest.name, "named");
  assert.ok(half.manifest.files["decoder.onnx"].bytes < 0.6 * manifest.files["decoder.onnx"].bytes);
});

const WRONG_CONFIGS: readonly (readonly [path: string, value: unknown, message: RegExp])[] = [
  ["model_type", "gpt2", /`model_type` must be "qwen2" or "ecar", got "gpt2"/],
  ["solver", "euler", /`solver` must be "midpoint", got "euler"/],
  ["colour", 1, /`colour` is not a known field/],
  ["latent/side", 8, /`latent.side` must be the last stage's, 4, got 8/],
  ["latent/channels", 5, /must have shape|must take latents of 5 channels, got 4/],
  ["latent/mean", [1], /`latent.mean` must be 4 numbers/],
  ["stages/1/alpha", 0.7, /`stages\[1\].alpha` must be 0.6, as keeps the noise white, got 0.7/],
  ["stages/2/start", 0.6, /`stages\[2\].startNoise` must be 0.5/],
  ["stages", [], /`stages` must be a list of objects, not empty/],
  ["transformer/vocab_size", 300, /`transformer.vocab_size` must be the tokenizer's 307, got 300/],
  ["transformer/num_hidden_layers", 1, /12 unknown array\(s\): `model\.layers\.1\./],
  ["transformer/num_hidden_layers", 3, /array `model\.layers\.2\.[a-z_.]+` is missing/],
  ["flow_head/num_attention_heads", 8, /`flow_head.num_attention_heads` must be a divisor of 16/],
  ["flow_head/hidden_size", 32, /`flow_head\.[a-z_.]+` must have shape/],
];

test("a config.json that says anything else than what serving computes is refused by name, and nothing is written", async () => {
  for (const [path, value, message] of WRONG_CONFIGS) {
    const lmFolder = await changed("config.json", path, value);
    await assert.rejects(convertCheckpoint(options({ lmFolder })), { kind: "mismatch", message }, path);
  }
  assert.ok(!(await readdir(folder)).includes("never"));
});

test("parts that do not fit together are refused", async () => {
  await assert.rejects(convertCheckpoint(options({ decoderFile: join(TINY_FOLDER, "decoder.jit") })), {
    kind: "unsupported", message: /takes discrete tokens and the flow gives latents/,
  });
  await assert.rejects(convertCheckpoint(options({ encoderFile: join(TINY_STAGE_FOLDER, "encoder.jit") })), { kind: "unsupported" });
  await assert.rejects(convertCheckpoint(options({ grid: [4, 4] })), { kind: "unsupported" });
  const grid = await changed("tessera.json", "grid", [8, 8]);
  await assert.rejects(convertCheckpoint(options({ lmFolder: grid })), { message: /`grid` must be the last stage's 4 x 4, got 8 x 8/ });
  const sampling = await changed("tessera.json", "defaults/temperature", 1);
  await assert.rejects(convertCheckpoint(options({ lmFolder: sampling })), { message: /`defaults.temperature` is not a known field/ });
  const long = await changed("tessera.json", "maxPromptTokens", 65);
  await assert.rejects(convertCheckpoint(options({ lmFolder: long })), { message: /`maxPromptTokens` must be at most config.json's 64, got 65/ });
  const silent = await changed("tessera.json", "name", "silent");
  await rm(join(silent, "tessera.json"));
  await assert.rejects(convertCheckpoint(options({ lmFolder: silent })), { message: /has no tessera.json/ });
});
