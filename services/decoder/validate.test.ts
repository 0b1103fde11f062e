import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { ImageSection } from "#libs/bundle/manifest.js";
import { DecodeRequestSchema, GenerateImageRequestSchema, ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { validDecodeRequest, validGenerateImageRequest } from "./validate.js";

const image: ImageSection = { height: 8, width: 8, gridHeight: 2, gridWidth: 2, levels: [3], codebookSize: 3, tokenOffset: 9 };
const generate = (init: MessageInitShape<typeof GenerateImageRequestSchema>) =>
  validGenerateImageRequest(create(GenerateImageRequestSchema, init), image);
const decode = (init: MessageInitShape<typeof DecodeRequestSchema>) =>
  validDecodeRequest(create(DecodeRequestSchema, init), image);
const tokens = (...values: readonly number[]) => ({ content: { case: "tokens" as const, value: { tokens: [...values] } } });

function refused(work: () => unknown, violations: Readonly<Record<string, string>>): void {
  const expected = Object.entries(violations).map(([field, rule]) => ({ field, description: `must be ${rule}` }));
  assert.throws(work, { kind: "invalid-request", violations: expected });
}

test("what is left out gets its default", () => {
  const { generation, ...rest } = generate({ generation: { prompt: "a" } });
  assert.equal(generation.prompt, "a");
  assert.deepEqual(rest, {
    imageCount: 1, encoding: { format: ImageFormat.PNG, quality: 90, includePrompt: false }, previewIntervalRows: 0,
    includeTokens: false,
  });
});

test("limits themselves are allowed", () => {
  const valid = generate({
    generation: { prompt: "a", imageCount: 16 }, previewIntervalRows: 2, includeTokens: true,
    encoding: { format: ImageFormat.WEBP, quality: 100 },
  });
  assert.deepEqual([valid.imageCount, valid.previewIntervalRows, valid.encoding.quality], [16, 2, 100]);
  const { images } = decode({ images: Array.from({ length: 16 }, () => tokens(0, 1, 2, 2)) });
  assert.equal(images.length, 16);
});

test("every field out of range is named with its rule and value, all at once", () => {
  refused(() => generate({}), { generation: "set" });
  refused(() => generate({ generation: { imageCount: 17 }, previewIntervalRows: 3, encoding: { quality: 101, format: ImageFormat.JPEG } }), {
    "generation.image_count": "0 .. 16, got 17", preview_interval_rows: "0 .. 2, got 3", "encoding.quality": "0 .. 100, got 101",
  });
  refused(() => generate({ generation: {}, encoding: { format: 9 as ImageFormat } }), { "encoding.format": "a known image format, got 9" });
  refused(() => generate({ generation: {}, encoding: { quality: 50 } }), { "encoding.quality": "0 unless the format is WebP or JPEG, got 50" });
  refused(() => generate({ generation: {}, encoding: { format: ImageFormat.JPEG, includePrompt: true } }), {
    "encoding.include_prompt": "false unless the format is PNG",
  });
});

test("tokens to decode make whole images of known tokens", () => {
  refused(() => decode({}), { images: "1 .. 16 entries, got 0" });
  refused(() => decode({ images: Array.from({ length: 17 }, () => tokens(0, 0, 0, 0)) }), { images: "1 .. 16 entries, got 17" });
  refused(() => decode({ images: [tokens(0, 1, 2, 0), tokens(0, 1, 2), tokens(0, 3, 0, 0), {}] }), {
    "images[1].tokens": "4 image tokens, got 3", "images[2].tokens[1]": "0 .. 2, got 3", "images[3]": "tokens",
  });
  refused(() => decode({ images: [tokens(0, 0, 0, 0)], encoding: { includePrompt: true } }), {
    "encoding.include_prompt": "false: there is no prompt",
  });
  const latent = { content: { case: "latent" as const, value: {} } };
  assert.throws(() => decode({ images: [latent] }), { kind: "unsupported", message: /`images\[0\]\.latent` is not supported/ });
});
