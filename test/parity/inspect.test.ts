import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { largestDistance, readGoldenFacts, readGoldens } from "#test/fixtures/goldens.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

const COMMAND = fileURLToPath(import.meta.resolve("#libs/cli/inspect.js"));

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-inspect-"));
});
after(() => rm(folder, { recursive: true }));

/** Run the command on `input`, saved as JSON. @returns its exit code, errors, and the file that it wrote. */
async function inspect(what: "logits" | "pixels", input: unknown, ...more: readonly string[]) {
  const [inFile, outFile] = [join(folder, "in.json"), join(folder, "out.npy")];
  await writeFile(inFile, typeof input === "string" ? input : JSON.stringify(input));
  await rm(outFile, { force: true });
  const inFlag = what === "logits" ? "--ids" : "--tokens";
  const args = [COMMAND, what, "--bundle", await tinyBundle(), inFlag, inFile, "--out", outFile, ...more];
  const { code, stderr } = await new Promise<{ code: number | null; stderr: string }>((resolve) => {
    const child = execFile(process.execPath, args, (_, __, errors) => resolve({ code: child.exitCode, stderr: errors }));
  });
  return { code, stderr, array: code === 0 ? await readArray(outFile) : undefined };
}

/** Shape and numbers of a NumPy file. */
async function readArray(path: string): Promise<{ readonly shape: readonly number[]; readonly data: Float32Array }> {
  const bytes = await readFile(path);
  const start = 10 + bytes.readUInt16LE(8);
  const [, shape] = /'shape': \(([^)]*)\)/.exec(bytes.subarray(10, start).toString("latin1"))!;
  return { shape: shape.split(",").map(Number), data: new Float32Array(new Uint8Array(bytes.subarray(start)).buffer) };
}

test("logits are the reference's from the last prompt token on, in one window or many, for both forms of ids", async () => {
  const goldens = await readGoldens();
  const { vocabularySize, codebookSize } = await readGoldenFacts();
  const [length] = goldens.shape("conditional.ids");
  const ids = await goldens.integers("conditional.ids", [length]);
  const logits = await goldens.floats("conditional.near.logits", [length, codebookSize]);
  const [prompt, tokens] = [ids.slice(0, -16), ids.slice(-16).map((id) => id - vocabularySize)];
  for (const input of [ids, { prompt, tokens }]) {
    for (const flags of [[], ["--window", "1"], ["--window", "3"], ["--window", "13"]]) {
      const { code, stderr, array } = await inspect("logits", input, ...flags);
      assert.equal(code, 0, stderr);
      assert.deepEqual(array?.shape, [17, codebookSize]);
      const distance = largestDistance(array.data, logits.subarray((length - 17) * codebookSize));
      assert.ok(distance < 2e-5, `${flags.join(" ")}: ${distance}`);
    }
  }
});

test("a prompt alone gives the law of the first image token", async () => {
  const { code, array } = await inspect("logits", { prompt: [300, 5, 302] });
  assert.equal(code, 0);
  assert.deepEqual(array?.shape, [1, 36]);
});

test("pixels are the reference's", async () => {
  const goldens = await readGoldens();
  const tokens = await goldens.integers("oblong.tokens", [1, 3, 5]);
  for (const input of [tokens, { tokens }]) {
    const { code, stderr, array } = await inspect("pixels", input, "--grid", "3x5");
    assert.equal(code, 0, stderr);
    assert.deepEqual(array?.shape, [3, 24, 40]);
    assert.ok(largestDistance(array.data, await goldens.floats("oblong.pixels", [1, 3, 24, 40])) < 1e-4);
  }
});

test("bad input is named, ends with 2 or 1 and leaves no file", async () => {
  const cases = [
    ["logits", { prompt: [307] }, 2, /`--ids prompt\[0\]` must be a whole number 0 \.\. 306, got "307"/],
    ["logits", { prompt: [0], tokens: [1, 36] }, 2, /`--ids tokens\[1\]` must be a whole number 0 \.\. 35, got "36"/],
    ["logits", { tokens: [1] }, 2, /`--ids prompt` must be a list of whole numbers, got "undefined"/],
    ["logits", [307, 308], 2, /`--ids` must be a prompt of at least one text id/],
    ["logits", [0, 343], 2, /`--ids\[1\]` must be a whole number 0 \.\. 342/],
    ["logits", Array.from({ length: 8193 }, () => 0), 2, /`--ids` must be at most 8192 positions, got 8193/],
    ["logits", "{", 1, /in\.json: must be a JSON list or object/],
    ["pixels", [1, 2, 3], 2, /`--tokens` must be 3 x 5 image tokens, got 3/],
    ["pixels", Array.from({ length: 15 }, () => 1.5), 2, /`--tokens\[0\]` must be a whole number 0 \.\. 35, got "1\.5"/],
  ] as const;
  for (const [what, input, expected, message] of cases) {
    const { code, stderr } = await inspect(what, input, ...(what === "pixels" ? ["--grid", "3x5"] : []));
    assert.match(stderr, message);
    assert.equal(code, expected);
    assert.deepEqual(await readdir(folder), ["in.json"]);
  }
});
