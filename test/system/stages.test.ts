import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { runCommandLine } from "#test/doubles/run-command.js";
import { tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-stages-"));
after(() => rmSync(folder, { recursive: true, force: true }));

test("the same command serves a stage-wise bundle: pictures, a preview a stage, one line of JSON", async () => {
  const [out, previews] = [join(folder, "apples.png"), join(folder, "previews")];
  const { code, stdout, stderr } = await runCommandLine("generate", [
    "two red apples", "--bundle", await tinyStageBundle(), "--seed", "7", "--images", "2", "--previews", previews, "--out", out, "--json",
  ]);
  assert.equal(code, 0, stderr);
  const { images, ...report } = JSON.parse(stdout.trimEnd().split("\n").at(-1)!);
  assert.deepEqual([report.width, report.height, report.seed, report.tokens, report.model], [32, 32, "7", 42, "tiny-ecar"]);
  assert.notEqual(images[0].tokenDigest, images[1].tokenDigest);
  assert.deepEqual(readdirSync(previews).sort(), ["0-001.jpg", "0-002.jpg", "1-001.jpg", "1-002.jpg"]);
  for (const { file } of images) assert.equal((await sharp(readFileSync(file)).metadata()).format, "png");
  assert.match(stderr, /42\/42 tokens/);
});

test("the stage-wise model that comes with the code makes a picture, which comes into focus", async () => {
  const [out, previews] = [join(folder, "sunflower.png"), join(folder, "sunflower")];
  const bundle = join(DEFAULT_BUNDLE, "..", "emoji-ecar-96");
  const { code, stderr } = await runCommandLine("generate", ["a sunflower", "--bundle", bundle, "--seed", "1", "--previews", previews, "--out", out]);
  assert.equal(code, 0, stderr);
  const pixelsOf = async (file: string) => (await sharp(file).removeAlpha().raw().toBuffer()).map(Number);
  const last = await pixelsOf(out);
  const distances = await Promise.all(readdirSync(previews).sort().map(async (file) => {
    const pixels = await pixelsOf(join(previews, file));
    return pixels.reduce((sum, value, i) => sum + Math.abs(value - last[i]!), 0) / pixels.length;
  }));
  assert.equal(distances.length, 2);
  assert.ok(distances[0]! > distances[1]! && distances[1]! > 0, `${distances}`);
});
