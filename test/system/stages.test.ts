import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
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
