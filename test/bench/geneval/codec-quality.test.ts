import assert from "node:assert/strict";
import { test } from "node:test";
import { CodecQuality, similarityOf } from "./codec-quality.js";
import { isNamed } from "./colour.js";
import { PICTURE_BYTES } from "./picture.js";

const picture = (value: (i: number) => number) => Uint8Array.from({ length: PICTURE_BYTES }, (_, i) => value(i));
const drawn = picture((i) => (Math.floor(i / 3) * 37) % 251);

test("a picture is wholly like itself, hardly like its negative, and less like itself in noise", () => {
  assert.ok(Math.abs(similarityOf(drawn, drawn) - 1) < 1e-12);
  assert.ok(similarityOf(drawn, drawn.map((value) => 255 - value)) < 0);
  const noisy = similarityOf(drawn, drawn.map((value, i) => Math.min(255, Math.max(0, value + ((i * 101) % 61) - 30))));
  assert.ok(noisy > 0.5 && noisy < 0.999, `${noisy}`);
});

test("an error of 16 everywhere is 24.05 dB; codes count once", () => {
  const quality = new CodecQuality(10);
  quality.add(picture(() => 100), picture(() => 116), Uint32Array.of(1, 2, 2));
  quality.add(picture(() => 100), picture(() => 84), Uint32Array.of(2, 5));
  assert.ok(Math.abs(quality.numbers.psnrDb - 24.0485) < 1e-3);
  assert.equal(quality.numbers.codesUsed, 0.3);
});

test("a vocabulary colour goes by its own name and by no other", () => {
  const colours = { red: [222, 40, 44], orange: [245, 135, 30], yellow: [250, 205, 40], green: [46, 160, 60], blue: [40, 100, 220],
    purple: [130, 60, 190], pink: [245, 120, 180], brown: [125, 78, 45], black: [48, 48, 54], white: [238, 238, 240] } as const;
  for (const [name, rgb] of Object.entries(colours)) {
    assert.deepEqual(Object.keys(colours).filter((other) => isNamed(rgb, other)), [name]);
  }
});
