import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
import { runCommandLine } from "#test/doubles/run-command.js";
import { TINY_FOLDER, tinyBundle } from "#test/fixtures/tiny-bundle.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-pipeline-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Red, green and blue, row by row. */
function pixelsOf(file: string): Promise<Buffer> {
  return sharp(file).removeAlpha().raw().toBuffer();
}

test("a prompt becomes the very pixels that PyTorch draws, through all three services", async () => {
  const expected = await pixelsOf(join(TINY_FOLDER, "pipeline.png"));
  for (const flags of [[], ["--draft-window", "4"]]) {
    const out = join(folder, "out.png");
    const { code, stderr } = await runCommandLine("generate", [
      "two red apples", "--bundle", await tinyBundle(), "--temperature", "0", "--guidance", "3", "--out", out, ...flags,
    ]);
    assert.equal(code, 0, stderr);
    assert.deepEqual(await pixelsOf(out), expected);
  }
});
