import assert from "node:assert/strict";
import { join } from "node:path";
import { before, test } from "node:test";
import { collectCosmosDecoder, readCosmosDecoder } from "#libs/convert/cosmos-checkpoint.js";
import { pixelsPerToken } from "#libs/convert/cosmos-structure.js";
import type { StoredTensor, TensorSource } from "#libs/convert/tensor-source.js";
import { readTorchArchive } from "#libs/convert/torch-archive.js";
import { floats, integers, sourceOf, type Changes } from "#test/fixtures/cosmos-cases.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";

const FILE = join(TINY_FOLDER, "decoder.jit");
let original: ReadonlyMap<string, StoredTensor>;

before(async () => {
  const source = await readTorchArchive(FILE);
  original = new Map(await Promise.all(source.names.map(async (name) => {
    const shape = source.shape(name);
    const isTable = name.endsWith("._levels") || name.endsWith("._basis");
    return [name, isTable ? integers(await source.integers(name, shape)) : floats(shape, await source.floats(name, shape))] as const;
  })));
});

const zeros = (...shape: readonly number[]): StoredTensor => floats(shape, new Float32Array(shape.reduce((a, b) => a * b)));

/** The tiny decoder with some arrays replaced, added, or (undefined) left out. */
function changed(changes: Changes): TensorSource {
  return sourceOf("decoder.jit", original, changes);
}

test("structure follows from the arrays", async () => {
  const decoder = await readCosmosDecoder(FILE);
  assert.deepEqual(decoder.levels, [4, 3, 3]);
  assert.equal(decoder.haarLevels, 2);
  assert.equal(pixelsPerToken(decoder), 8);
  assert.equal(decoder.up.length, 2);
  assert.ok(decoder.middle[1] !== undefined);
  const [coarse, fine] = decoder.up;
  assert.equal(coarse.blocks[0].residual.shortcut, undefined);
  assert.deepEqual([fine.blocks[0].residual.shortcut?.inputs, fine.blocks[0].residual.shortcut?.outputs], [32, 64]);
  assert.deepEqual([coarse.upsample?.conv.outputs, fine.upsample], [32, undefined]);
});

test("a decoder without attention, and one that carries its wavelets, are read", async () => {
  const attention = [...original.keys()].filter((name) => name.startsWith("decoder.mid.attn_1."));
  const decoder = await collectCosmosDecoder(changed(Object.fromEntries(attention.map((name) => [name, undefined]))));
  assert.equal(decoder.middle[1], undefined);
  const wavelets = (value: number): StoredTensor => floats([2], Float32Array.of(value, value));
  const arange = integers([0, 1]);
  await collectCosmosDecoder(changed({ "decoder.unpatcher.wavelets": wavelets(0.70703125), "decoder.unpatcher._arange": arange }));
  await assert.rejects(collectCosmosDecoder(changed({ "decoder.unpatcher.wavelets": wavelets(1) })), { kind: "unsupported" });
});

test("a missing, unknown or misshapen array is refused by name", async () => {
  const cases: readonly (readonly [changes: Changes, message: string])[] = [
    [{ "decoder.conv_in.bias": undefined }, "decoder.jit: array `decoder.conv_in.bias` is missing"],
    [{ "decoder.up.1.upsample.conv.weight": undefined }, "decoder.jit: array `decoder.up.1.upsample.conv.weight` is missing"],
    [{ "decoder.up.0.block.0.nin_shortcut.weight": undefined, "decoder.up.0.block.0.nin_shortcut.bias": undefined },
      "`decoder.up.0.block.0` must give 64 channels on both ways, its shortcut gives 32"],
    [{ "decoder.extra.weight": zeros(3) }, "decoder.jit: 1 unknown array(s): `decoder.extra.weight`"],
    [{ "decoder.up.0.upsample.conv.weight": zeros(64, 64, 3, 3), "decoder.up.0.upsample.conv.bias": zeros(64) },
      "decoder.jit: 2 unknown array(s): `decoder.up.0.upsample.conv.weight`, `decoder.up.0.upsample.conv.bias`"],
    [{ "decoder.conv_in.bias": zeros(31) }, "decoder.jit: `decoder.conv_in.bias` must have shape [32], got [31]"],
    [{ "decoder.conv_in.weight": zeros(32, 9, 3, 3) }, "`decoder.conv_in` must take 8 channels, got 9"],
    [{ "decoder.conv_in.weight": zeros(32, 8, 3, 2) },
      "`decoder.conv_in.weight` must have shape [outputs, inputs, n, n] with n odd, got [32, 8, 3, 2]"],
    [{ "decoder.norm_out.weight": zeros(32), "decoder.norm_out.bias": zeros(32) }, "`decoder.norm_out` must have 64 channels, got 32"],
    [{ "decoder.conv_out.weight": zeros(24, 64, 3, 3), "decoder.conv_out.bias": zeros(24) },
      "`decoder.conv_out` must have 3 * 4^n channels of patches, got 24"],
  ];
  for (const [changes, message] of cases) {
    await assert.rejects(collectCosmosDecoder(changed(changes)), { kind: "mismatch", message });
  }
});

test("a quantizer whose tables disagree is refused", async () => {
  const prefix = "inv_quant.quantizer";
  const cases: readonly (readonly [changes: Readonly<Record<string, StoredTensor>>, message: RegExp])[] = [
    [{ [`${prefix}._levels`]: integers([4, 3, 1]) }, /_levels` must be whole numbers >= 2, got \[4, 3, 1\]/],
    [{ [`${prefix}._basis`]: integers([9, 3, 1]) }, /_basis` must be \[1, 4, 12\], got \[9, 3, 1\]/],
    [{ [`${prefix}.implicit_codebook`]: zeros(36, 3) }, /implicit_codebook` differs from the codes of its levels at 0/],
    [{ [`${prefix}._levels`]: integers([4, 3, 4]) }, /implicit_codebook` must have shape \[48, 3\], got \[36, 3\]/],
  ];
  for (const [changes, message] of cases) await assert.rejects(collectCosmosDecoder(changed(changes)), message);
});

test("a decoder without a quantizer is one of continuous latents", async () => {
  const tables = ["_levels", "_basis", "implicit_codebook"].map((table) => [`inv_quant.quantizer.${table}`, undefined]);
  const decoder = await collectCosmosDecoder(changed(Object.fromEntries(tables)));
  assert.deepEqual([decoder.levels, decoder.latentChannels], [[], 3]);
  await assert.rejects(collectCosmosDecoder(changed({ "inv_quant.quantizer._levels": undefined })), {
    message: "decoder.jit: 2 unknown array(s): `inv_quant.quantizer._basis`, `inv_quant.quantizer.implicit_codebook`",
  });
});
