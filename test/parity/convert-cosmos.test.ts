import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseConvertOptions } from "#libs/cli/convert-options.js";
import { convert } from "#libs/convert/convert.js";
import { collectCosmosDecoder, collectCosmosEncoder } from "#libs/convert/cosmos-checkpoint.js";
import { checkTokenizer } from "#libs/convert/cosmos-structure.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";
import { COSMOS_FOLDER, cosmosArrays } from "#test/fixtures/cosmos-cases.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";

const ENCODER = join(COSMOS_FOLDER, "encoder.jit");
const OPTIONS = { lmFolder: join(TINY_FOLDER, "lm"), decoderFile: join(COSMOS_FOLDER, "decoder.jit"), weights: "fp32" } as const;

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-convert-cosmos-"));
});
after(() => rm(folder, { recursive: true }));

test("a video tokenizer becomes a bundle, its encoder only when it is given", async () => {
  const without = await convert({ ...OPTIONS, outFolder: join(folder, "without") });
  assert.equal(without.manifest.encoder, undefined);
  const { manifest, path } = await convert({ ...OPTIONS, encoderFile: ENCODER, outFolder: join(folder, "with") });
  assert.deepEqual(manifest.encoder, { file: "encoder.onnx", weights: "fp32" });
  assert.deepEqual([manifest.image.height, manifest.image.width, manifest.image.levels], [32, 32, [4, 3, 3]]);
  const session = await createInferenceSession(path("encoder.onnx"));
  try {
    assert.deepEqual([session.inputNames, session.outputNames], [["pixels"], ["tokens"]]);
  } finally {
    await session.release();
  }
});

test("the command line takes the encoder by its flag", () => {
  const args = ["--lm", "lm", "--decoder", "decoder.jit", "--out", "out"];
  assert.equal(parseConvertOptions(args)?.encoderFile, undefined);
  assert.equal(parseConvertOptions([...args, "--encoder", "encoder.jit"])?.encoderFile, "encoder.jit");
  assert.throws(() => parseConvertOptions([...args, "--encoder", ""]), { kind: "invalid-request", message: "`--encoder` must be given" });
});

test("the command line takes a compression of equal sides by its flag", () => {
  const args = ["--lm", "lm", "--decoder", "decoder.jit", "--out", "out"];
  assert.deepEqual(parseConvertOptions([...args, "--compression", "4x8x8"])?.compression, { time: 4, space: 8 });
  for (const wrong of ["8x16", "8x16x8", "3x8x8", ""]) {
    assert.throws(() => parseConvertOptions([...args, "--compression", wrong]), {
      kind: "invalid-request", message: `\`--compression\` must be frames x rows x columns such as 8x16x16, got ${JSON.stringify(wrong)}`,
    });
  }
});

test("an encoder in the decoder's place, or another tokenizer's, is refused and leaves nothing behind", async () => {
  const kept = await readdir(folder);
  await assert.rejects(convert({ ...OPTIONS, decoderFile: ENCODER, outFolder: join(folder, "never") }), { kind: "mismatch" });
  const decoder = await collectCosmosDecoder(await cosmosArrays("DI16x16", "decoder"));
  const other = await collectCosmosEncoder(await cosmosArrays("DI8x8", "encoder"));
  assert.throws(() => checkTokenizer(decoder, other), {
    kind: "mismatch",
    message: "the encoder's tokens must have levels and size [8, 5, 4] and 16 pixels as the decoder's have, got [8, 5, 4] and 8 pixels",
  });
  assert.deepEqual(await readdir(folder), kept);
});

test("a continuous tokenizer is refused beside a transformer of image tokens", async () => {
  const decoder = await collectCosmosDecoder(await cosmosArrays("CI16x16", "decoder"));
  assert.throws(() => checkTokenizer(decoder, undefined), { kind: "unsupported", message: /continuous latents .* give a discrete one/ });
});

test("a conversion aborted while convolutions are folded leaves nothing behind", async () => {
  const kept = await readdir(folder);
  const controller = new AbortController();
  let arrays = 0;
  const onProgress = (): void => {
    if (++arrays === 100) controller.abort();
  };
  const converting = convert({ ...OPTIONS, outFolder: join(folder, "never"), onProgress, signal: controller.signal });
  await assert.rejects(converting, { name: "AbortError" });
  assert.deepEqual(await readdir(folder), kept);
});
