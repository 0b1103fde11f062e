import assert from "node:assert/strict";
import { test } from "node:test";
import { Tensor } from "onnxruntime-node";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import type { WeightType } from "#libs/bundle/manifest.js";
import { codeTable } from "#libs/fsq/fsq.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";
import { largestDistance, readGoldens } from "#test/fixtures/goldens.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

const SHAPES = { square: [2, 4, 4], oblong: [1, 3, 5] } as const;

/** Decode the golden tokens. @returns the largest distance from the golden pixels, over all shapes. */
async function distanceOf(weights: WeightType): Promise<number> {
  const goldens = await readGoldens();
  const bundle = await openTokenBundle(await tinyBundle(weights));
  const session = await createInferenceSession(bundle.path(bundle.manifest.decoder.file));
  let largest = 0;
  try {
    for (const [name, [batch, height, width]] of Object.entries(SHAPES)) {
      const tokens = await goldens.integers(`${name}.tokens`, [batch, height, width]);
      const dims = [batch, 3, 8 * height, 8 * width];
      const feeds = { tokens: new Tensor("int64", BigInt64Array.from(tokens, BigInt), [batch, height, width]) };
      const { pixels } = await session.run(feeds);
      assert.deepEqual(pixels.dims, dims);
      largest = Math.max(largest, largestDistance(pixels.data as Float32Array, await goldens.floats(`${name}.pixels`, dims)));
    }
  } finally {
    await session.release();
  }
  return largest;
}

test("pixels are the reference's, at any height, width and batch", async (t) => {
  const distance = await distanceOf("fp32");
  t.diagnostic(`fp32: largest distance ${distance.toExponential(2)}`);
  assert.ok(distance < 1e-4, `${distance}`);
});

test("fp16 weights stay near the reference", async (t) => {
  const distance = await distanceOf("fp16");
  t.diagnostic(`fp16: largest distance ${distance.toExponential(2)}`);
  assert.ok(distance < 0.02, `${distance}`);
});

test("codes of all image tokens are the reference's", async () => {
  const goldens = await readGoldens();
  const bundle = await openTokenBundle(await tinyBundle());
  const { levels, codebookSize } = bundle.manifest.image;
  assert.deepEqual(codeTable(levels), await goldens.floats("codes", [codebookSize, levels.length]));
});

test("a token outside the codebook fails the run", async () => {
  const bundle = await openTokenBundle(await tinyBundle());
  const session = await createInferenceSession(bundle.path(bundle.manifest.decoder.file));
  try {
    const outside = BigInt(bundle.manifest.image.codebookSize);
    const tokens = new Tensor("int64", BigInt64Array.of(outside), [1, 1, 1]);
    await assert.rejects(session.run({ tokens }), /out of data bounds/);
  } finally {
    await session.release();
  }
});
