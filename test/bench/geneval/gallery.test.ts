import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
import { readVocabulary } from "#libs/training/vocabulary.js";
import { Gallery } from "./gallery.js";
import { PICTURE_BYTES, SIDE } from "./picture.js";
import { promptsOf } from "./prompts.js";

const folder = await mkdtemp(join(tmpdir(), "tessera-gallery-"));
after(() => rm(folder, { recursive: true }));

test("pictures come back to the bit, and a later run knows what is there", async () => {
  const [first, second] = promptsOf("seen", readVocabulary());
  const pixels = Uint8Array.from({ length: PICTURE_BYTES }, (_, i) => (i * 7) % 256);
  const png = await sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } }).png().toBuffer();
  const gallery = await Gallery.open(folder);
  assert.ok(!gallery.has(first!, 1));
  await gallery.write(first!, 0, png);
  assert.deepEqual(await gallery.read(first!, 1), [pixels]);
  const again = await Gallery.open(folder);
  assert.ok(again.has(first!, 1));
  assert.ok(!again.has(first!, 2));
  assert.ok(!again.has(second!, 1));
});

test("a run that was stopped while it wrote leaves nothing half there", async () => {
  const [, second] = promptsOf("seen", readVocabulary());
  const gallery = await Gallery.open(join(folder, "pictures"));
  await assert.rejects(gallery.write(second!, 0, undefined as unknown as Uint8Array));
  assert.ok(!(await Gallery.open(join(folder, "pictures"))).has(second!, 1));
});
