import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { collectCosmosDecoder, collectCosmosEncoder, type Compression } from "#libs/convert/cosmos-checkpoint.js";
import type { TensorSource } from "#libs/convert/tensor-source.js";
import { readTorchArchive } from "#libs/convert/torch-archive.js";
import {
  casePixels, COSMOS_FOLDER, cosmosArrays, floats, integers, readCosmosGoldens, type Changes, type CosmosPart,
} from "#test/fixtures/cosmos-cases.js";
import { distanceOf, openCosmos, readAny } from "./cosmos-distance.js";

/** Pixels of a token along each side. */
const CASES: Readonly<Record<string, number>> = {
  "DV8x16x16": 16, "DV4x8x8": 8, "DV8x8x8": 8,
  "DI16x16": 16, "DI8x8": 8, "DI8x8-360p": 8, "CI16x16": 16, "CI8x8": 8,
};

/** What may be said about a case. */
interface CaseOptions {
  /** Which golden the result is held against; default "out". */
  readonly out?: string;
  readonly compression?: Compression;
}

/** Run one half on its golden input. @returns the distance from its golden result. */
async function distanceFrom(
  name: string, part: CosmosPart, tensors: TensorSource, pixelsPerToken: number, { out = "out", compression }: CaseOptions = {},
): Promise<number> {
  const goldens = await readCosmosGoldens();
  const latentShape = goldens.shape(`${name}.decoder.in`);
  const [rows, columns] = latentShape.slice(-2).map((size) => size * pixelsPerToken);
  const pixelShape = [latentShape[0], 3, rows, columns];
  const session = await openCosmos(tensors, part, compression && { compression });
  try {
    const { data, dims } = part === "encoder"
      ? await session.run(casePixels(name, pixelShape), pixelShape)
      : await session.run(await readAny(goldens, `${name}.decoder.in`), latentShape);
    assert.deepEqual(dims, goldens.shape(`${name}.${part}.${out}`));
    return distanceOf(data, await readAny(goldens, `${name}.${part}.${out}`));
  } finally {
    await session.close();
  }
}

/** Nearer than 2e-5; tokens are the very same. */
const isNear = (distance: number, part: CosmosPart, name: string): boolean =>
  part === "encoder" && name.startsWith("D") ? distance === 0 : distance < 2e-5;

for (const [name, pixelsPerToken] of Object.entries(CASES)) {
  for (const part of ["decoder", "encoder"] as const) {
    test(`the ${part} of ${name} gives what PyTorch gives`, async (t) => {
      const distance = await distanceFrom(name, part, await cosmosArrays(name, part), pixelsPerToken);
      t.diagnostic(`distance ${distance.toExponential(2)}`);
      assert.ok(isNear(distance, part, name), `${distance}`);
    });
  }
}

for (const name of Object.keys(CASES).filter((each) => each.startsWith("DV"))) {
  test(`the encoder of ${name} gives the reference's latents before they are rounded`, async (t) => {
    const tables = ["_levels", "_basis", "implicit_codebook"].map((table) => [`quantizer.${table}`, undefined] as const);
    const tensors = await cosmosArrays(name, "encoder", Object.fromEntries(tables));
    const distance = await distanceFrom(name, "encoder", tensors, CASES[name], { out: "latents" });
    t.diagnostic(`distance ${distance.toExponential(2)}`);
    assert.ok(distance < 2e-5, `${distance}`);
  });
}

for (const part of ["decoder", "encoder"] as const) {
  test(`a bfloat16 ${part}.jit of a video tokenizer gives what its PyTorch module gives`, async (t) => {
    const distance = await distanceFrom("DV8x16x16-archive", part, await readTorchArchive(join(COSMOS_FOLDER, `${part}.jit`)), 8);
    t.diagnostic(`distance ${distance.toExponential(2)}`);
    assert.ok(isNear(distance, part, "DV8x16x16"), `${distance}`);
  });
}

const UNUSED = "DV8x16x16-unused";

for (const [name, compression] of [[UNUSED, "8x16x16"], ["DV4x8x8", "4x8x8"], ["DV8x8x8", "8x8x8"]] as const) {
  test(`a file that keeps what nothing uses is read as the tokenizer of compression ${compression} that it is said to be`, async () => {
    const [time, space] = compression.split("x").map(Number);
    for (const part of ["decoder", "encoder"] as const) {
      // Weights follow from their names, so that each tokenizer finds its own among all.
      const distance = await distanceFrom(name, part, await cosmosArrays(UNUSED, part), space, { compression: { time, space } });
      assert.ok(isNear(distance, part, name), `${part} ${distance}`);
    }
  });
}

test("a file that keeps what nothing uses is refused unless its compression is said, and one that does not if it is another", async () => {
  const message = /upsample\.conv1` is there though nothing uses it.* say which tokenizer this is by its compression/;
  await assert.rejects(collectCosmosDecoder(await cosmosArrays(UNUSED, "decoder")), { kind: "mismatch", message });
  await assert.rejects(collectCosmosEncoder(await cosmosArrays(UNUSED, "encoder")), {
    kind: "mismatch", message: /down\.1\.downsample\.conv2` is there though nothing uses it/,
  });
  await assert.rejects(collectCosmosDecoder(await cosmosArrays("DV4x8x8", "decoder"), { time: 8, space: 16 }), {
    kind: "mismatch", message: /array `decoder\.up\.1\.upsample\.conv[123]\.conv3d\.weight` is missing/,
  });
  await assert.rejects(collectCosmosDecoder(await cosmosArrays("DI8x8", "decoder"), { time: 8, space: 16 }), {
    kind: "mismatch", message: "the compression must be one of 8 x 8 pixels, got 16 x 16",
  });
});

test("an array that is missing or left over is refused by its name, on video too", async () => {
  const conv = (name: string): Changes => ({ [`${name}.weight`]: undefined, [`${name}.bias`]: undefined });
  const cases: readonly (readonly [name: string, part: CosmosPart, changes: Changes, message: RegExp])[] = [
    ["DV8x16x16", "decoder", { "decoder.conv_in.1.conv3d.weight": undefined }, /array `decoder\.conv_in\.1\.conv3d\.weight` is missing/],
    ["DV8x16x16", "decoder", conv("decoder.up.1.upsample.conv3.conv3d"), /array `decoder\.up\.1\.upsample\.conv3\.conv3d\.weight` is missing/],
    ["DV8x16x16", "decoder", conv("decoder.mid.attn_1.1.q.conv3d"), /array `decoder\.mid\.attn_1\.1\.q\.conv3d\.weight` is missing/],
    ["DV8x16x16", "encoder", conv("encoder.down.0.downsample.conv1.conv3d"), /array `encoder\.down\.0\.downsample\.conv1\.conv3d\.weight` is missing/],
    ["DV8x16x16", "encoder", { "encoder.patcher3d.patch_size_buffer": integers([2]) }, /patch_size_buffer` must be \[4\], got \[2\]/],
    ["DI16x16", "decoder", conv("decoder.up.2.upsample.conv"), /array `decoder\.up\.2\.upsample\.conv\.weight` is missing/],
    ["DI16x16", "encoder", conv("encoder.down.0.downsample.conv"), /array `encoder\.down\.0\.downsample\.conv\.weight` is missing/],
    ["CI8x8", "encoder", { "encoder.down.2.downsample.conv.extra": integers([1]) }, /1 unknown array\(s\): `encoder\.down\.2\.downsample\.conv\.extra`/],
    ["CI8x8", "decoder", { "decoder.unpatcher.wavelets": floats([2], Float32Array.of(1, 1)) }, /must be cut by Haar wavelets/],
  ];
  for (const [name, part, changes, message] of cases) {
    const tensors = await cosmosArrays(name, part, changes);
    await assert.rejects(part === "decoder" ? collectCosmosDecoder(tensors) : collectCosmosEncoder(tensors), message);
  }
});
