import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openBundle } from "#libs/bundle/bundle.js";
import { convertInChild } from "#test/fixtures/convert-in-child.js";
import { writeRandomCheckpoint, type CheckpointSize } from "#test/fixtures/random-checkpoint.js";

const COMMAND = fileURLToPath(import.meta.resolve("#libs/cli/convert.js"));

/** 126 MB of bfloat16, of which no array has more than 3. */
const SIZE: CheckpointSize = {
  layers: 16, hiddenSize: 512, intermediateSize: 2048, heads: 8, keyValueHeads: 2, textTokens: 1007, levels: [8, 5, 5, 5], shards: 3,
};

let folder: string;
let checkpoint: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-size-"));
  checkpoint = join(folder, "checkpoint");
  await writeRandomCheckpoint(checkpoint, SIZE);
});
after(() => rm(folder, { recursive: true }));

test("a sharded checkpoint passes through less memory than its weights have", async () => {
  const out = join(folder, "bundle");
  const { peakBytes } = await convertInChild(checkpoint, out, "fp32");
  const bundle = await openBundle(out);
  const { size } = await stat(bundle.path("transformer.onnx.data"));
  // A process that has only started takes 95 MB: holding the weights would take 340.
  assert.ok(size > 245e6, `${size}`);
  assert.ok(peakBytes < 270e6, `${peakBytes}`);
});

/** Start a conversion into a folder of its own. @returns once weights are being read. */
async function startConversion(parent: string): Promise<ChildProcess> {
  await mkdir(parent);
  const args = ["--lm", join(checkpoint, "lm"), "--decoder", join(checkpoint, "decoder.jit"), "--out", join(parent, "bundle")];
  const child = spawn(process.execPath, [COMMAND, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.setEncoding("utf8");
  for await (const text of child.stderr ?? []) {
    said += String(text);
    // The first quarter is through: the draft holds weights.
    if (/^[1-9]\d*\/\d+ MB$/m.test(said)) break;
  }
  return child;
}

test("an interrupted conversion leaves nothing behind", async () => {
  const parent = join(folder, "interrupted");
  const child = await startConversion(parent);
  const [draft] = await readdir(parent);
  assert.match(draft, /^\.bundle-/);
  child.kill("SIGINT");
  assert.deepEqual(await once(child, "exit"), [130, null]);
  assert.deepEqual(await readdir(parent), []);
});

test("a killed conversion leaves no bundle", async () => {
  const parent = join(folder, "killed");
  const child = await startConversion(parent);
  child.kill("SIGKILL");
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
  assert.ok(!(await readdir(parent)).includes("bundle"));
});
