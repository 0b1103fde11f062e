import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openBundle } from "#libs/bundle/bundle.js";
import { DitCheckpoint } from "#libs/convert/dit-checkpoint.js";
import { parseEcarOptions } from "./options.js";

test("the baseline that is kept here denoises E-CAR's own latents and is as large, both in float16", async () => {
  const { bundle, dit } = parseEcarOptions([])!;
  const { manifest } = await openBundle(bundle);
  assert.ok(manifest.family === "ecar" && manifest.transformer.weights === "fp16" && manifest.flowHead.weights === "fp16");
  const { config } = await DitCheckpoint.open(dit);
  assert.deepEqual(config.latent, manifest.latent);
  assert.deepEqual([config.side, config.side], [manifest.image.gridHeight, manifest.image.gridWidth]);
  const { size } = await stat(join(dit, "model.safetensors"));
  const own = manifest.files[manifest.transformer.file]!.bytes + manifest.files[manifest.flowHead.file]!.bytes;
  assert.ok(Math.abs(size / own - 1) < 0.05, `${size} and ${own} bytes`);
});
