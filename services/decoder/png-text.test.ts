import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { withPngText } from "./png-text.js";

const plain = await sharp({ create: { width: 3, height: 2, channels: 3, background: "red" } }).png().toBuffer();
const HEADER_BYTES = 33;

test("a chunk has the bytes that the format prescribes", () => {
  const png = withPngText(plain, [{ keyword: "Seed", text: "Ä1" }]);
  // Made by hand with Python's zlib.crc32.
  assert.equal(Buffer.from(png).subarray(HEADER_BYTES, -(plain.length - HEADER_BYTES)).toString("hex"), KNOWN_CHUNK);
});

const KNOWN_CHUNK = "0000000c69545874536565640000000000c38431a3845292";

test("texts are read back by others, in order, and the rest of the file is as before", async () => {
  const texts = [
    { keyword: "Software", text: "Tessera" }, { keyword: "Description", text: "ein Apfel, 日本語 🍎" }, { keyword: "Empty", text: "" },
  ];
  const png = Buffer.from(withPngText(plain, texts));
  const { comments } = await sharp(png).metadata();
  assert.deepEqual(comments, texts);
  assert.deepEqual(png.subarray(0, HEADER_BYTES), plain.subarray(0, HEADER_BYTES));
  assert.deepEqual(png.subarray(-(plain.length - HEADER_BYTES)), plain.subarray(HEADER_BYTES));
  assert.deepEqual(await sharp(png).raw().toBuffer(), await sharp(plain).raw().toBuffer());
});

test("a NUL cannot cut a text short", async () => {
  const { comments } = await sharp(Buffer.from(withPngText(plain, [{ keyword: "Seed", text: "a\0b" }]))).metadata();
  assert.deepEqual(comments, [{ keyword: "Seed", text: "ab" }]);
});

test("refuses what is no PNG and keywords that the format forbids", () => {
  assert.throws(() => withPngText(plain.subarray(1), []), { kind: "internal" });
  assert.throws(() => withPngText(Buffer.alloc(5), []), { kind: "internal" });
  for (const keyword of ["", " a", "a ", "a  b", "a\nb", "日", "x".repeat(80)]) {
    assert.throws(() => withPngText(plain, [{ keyword, text: "" }]), /PNG keyword/, keyword);
  }
});
