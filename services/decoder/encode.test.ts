import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { encodeImage } from "./encode.js";
import type { ValidEncoding } from "./validate.js";

/** A smooth ramp: lossy formats stay close to it. */
const pixels = {
  height: 16, width: 24,
  data: new Uint8Array(16 * 24 * 3).map((_, index) => Math.floor(index / 72) * 8 + (index % 3) * 40),
};
const encoding = (format: ValidEncoding["format"], quality = 90): ValidEncoding => ({ format, quality, includePrompt: false });
const decode = (file: Uint8Array): Promise<Buffer> => sharp(file).removeAlpha().raw().toBuffer();

test("PNG and raw keep every pixel; equal inputs give equal bytes", async () => {
  const texts = [{ keyword: "Seed", text: "7" }];
  const png = await encodeImage(pixels, encoding(ImageFormat.PNG), texts);
  assert.deepEqual(await decode(png), Buffer.from(pixels.data));
  assert.deepEqual(await encodeImage(pixels, encoding(ImageFormat.PNG), texts), png);
  const { format, width, height, comments } = await sharp(png).metadata();
  assert.deepEqual({ format, width, height, comments }, { format: "png", width: 24, height: 16, comments: texts });
  assert.deepEqual(await encodeImage(pixels, encoding(ImageFormat.RAW)), pixels.data);
});

test("WebP and JPEG are what they say, stay close, and quality changes their size", async () => {
  for (const [format, name] of [[ImageFormat.WEBP, "webp"], [ImageFormat.JPEG, "jpeg"]] as const) {
    const file = await encodeImage(pixels, encoding(format));
    assert.equal((await sharp(file).metadata()).format, name);
    const decoded = await decode(file);
    assert.ok(decoded.every((value, index) => Math.abs(value - pixels.data[index]) <= 24), name);
    assert.ok((await encodeImage(pixels, encoding(format, 1))).length < file.length, name);
  }
});
