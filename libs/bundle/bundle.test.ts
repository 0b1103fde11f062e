import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { appendFile, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { DEFAULT_BUNDLE, openBundle, writeBundle } from "./bundle.js";
import type { TokenManifest } from "./manifest.js";

const MANIFEST: Omit<TokenManifest, "files"> = {
  formatVersion: 1, name: "tiny", family: "simplear", licence: "Apache-2.0", provenance: {}, metrics: {},
  text: {
    vocabularySize: 9, promptTemplate: "{prompt}", negativePromptTemplate: "{prompt}", unconditionalPrompt: "u", maxPromptTokens: 4,
    specialTokens: {},
  },
  image: { height: 8, width: 8, gridHeight: 1, gridWidth: 1, levels: [2], codebookSize: 2, tokenOffset: 9 },
  transformer: { file: "t.onnx", weights: "fp32", layers: 1, hiddenSize: 2, heads: 1, keyValueHeads: 1, headSize: 2, maxPositions: 5 },
  decoder: { file: "d.onnx", weights: "fp32" },
  defaults: { guidanceScale: 1, temperature: 0, topK: 0, topP: 1 },
};
const FILES = { "tokenizer.json": Buffer.from("{}"), "t.onnx": Buffer.from("transformer"), "d.onnx": Buffer.from("decoder") };

/** Fill a bundle with `files`. */
function filledWith(files: Readonly<Record<string, Buffer>>, manifest = MANIFEST): (draft: string) => Promise<typeof MANIFEST> {
  return async (draft) => {
    for (const [name, bytes] of Object.entries(files)) await writeFile(join(draft, name), bytes);
    return manifest;
  };
}
const fill = filledWith(FILES);

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "tessera-bundle-"));
  folder = join(parent, "bundle");
});
afterEach(() => rm(parent, { recursive: true }));

test("folders that lead to a bundle are made", async () => {
  const { folder: made } = await writeBundle(join(parent, "models", "mine"), fill);
  assert.equal(made, join(parent, "models", "mine"));
});

test("weights beside a graph that nobody has listed are refused: they would be read", async () => {
  await writeBundle(folder, fill);
  await writeFile(join(folder, "t.onnx.data"), "other weights");
  await assert.rejects(openBundle(folder), { kind: "mismatch", message: "model.json does not list t.onnx.data" });
});

test("a written bundle opens with the digest of its model.json", async () => {
  const { digest } = await writeBundle(folder, fill);
  const bundle = await openBundle(folder);
  assert.equal(bundle.digest, digest);
  assert.equal(digest, createHash("sha256").update(await readFile(join(folder, "model.json"))).digest("hex"));
  assert.equal(await readFile(bundle.path("t.onnx"), "utf8"), "transformer");
  assert.throws(() => bundle.path("other"), { kind: "mismatch", message: "model.json does not list other" });
  assert.deepEqual(await readdir(parent), ["bundle"]);
});

test("a file that is missing, of another size, or changed is refused by name", async () => {
  await writeBundle(folder, fill);
  await writeFile(join(folder, "t.onnx"), "transformes");
  await assert.rejects(openBundle(folder), { kind: "mismatch", message: /^t\.onnx must have SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}$/ });
  await openBundle(folder, { verify: false });
  await appendFile(join(folder, "t.onnx"), "!");
  await assert.rejects(openBundle(folder, { verify: false }), { kind: "mismatch", message: "t.onnx must have 11 bytes, got 12" });
  await rm(join(folder, "t.onnx"));
  await assert.rejects(openBundle(folder), { kind: "mismatch", message: "the bundle lacks t.onnx" });
});

test("a folder without model.json, or with a broken one, is refused", async () => {
  await assert.rejects(openBundle(folder), { kind: "not-found", message: `no model bundle: ${join(folder, "model.json")} does not exist` });
  await writeBundle(folder, fill);
  await writeFile(join(folder, "model.json"), "{");
  await assert.rejects(openBundle(folder), { kind: "mismatch", message: "model.json is not valid JSON" });
});

test("nothing is written over a folder, and nothing stays behind when writing fails", async () => {
  await writeBundle(folder, fill);
  await assert.rejects(writeBundle(folder, fill), { kind: "invalid-request", message: /`out` must be a folder that does not exist yet/ });
  await assert.rejects(writeBundle(join(folder, "model.json", "bundle"), fill), { kind: "invalid-request", message: /EEXIST|ENOTDIR/ });
  const failures: readonly (readonly [fill: typeof fill, error: object])[] = [
    [filledWith({ ...FILES, "no plain name": Buffer.of() }), { kind: "mismatch" }],
    [filledWith(FILES, { ...MANIFEST, name: "" }), { kind: "mismatch" }],
    [async (draft) => fill(draft).then(() => { throw new Error("half way"); }), { message: "half way" }],
  ];
  for (const [failing, error] of failures) await assert.rejects(writeBundle(join(parent, "other"), failing), error);
  await assert.rejects(writeBundle(join(parent, "other"), fill, { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.deepEqual(await readdir(parent), ["bundle"]);
});

test("a process that ends half way takes what it wrote along", () => {
  const script = `
    import { writeFileSync } from "node:fs";
    import { writeBundle } from ${JSON.stringify(import.meta.resolve("./bundle.js"))};
    await writeBundle(process.argv[1], async (draft) => { writeFileSync(draft + "/t.onnx", "half"); process.exit(3); });`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script, folder], { encoding: "utf8" });
  assert.equal(status, 3, stderr);
  assert.deepEqual(readdirSync(parent), []);
});

test("an aborted signal stops the reading", async () => {
  await writeBundle(folder, fill);
  await assert.rejects(openBundle(folder, { signal: AbortSignal.abort() }), { name: "AbortError" });
});

test("the default bundle lies in the package, wherever the code runs from", async () => {
  const root = join(DEFAULT_BUNDLE, "..", "..", "..");
  assert.equal(relative(root, DEFAULT_BUNDLE), join("libs", "models", "emoji-96"));
  assert.equal((JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { name: string }).name, "tessera");
});
