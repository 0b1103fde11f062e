import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseQwen2Config } from "#libs/convert/qwen2-config.js";
import { readGenerationConfig } from "#libs/convert/generation-config.js";
import { readSafetensorsFolder } from "#libs/convert/safetensors.js";
import type { TensorSource } from "#libs/convert/tensor-source.js";
import { parseTextVocabulary } from "#libs/convert/text-vocabulary.js";
import { readTorchArchive } from "#libs/convert/torch-archive.js";
import { ZipArchive } from "#libs/convert/zip.js";
import { AppError } from "#libs/errors/errors.js";
import { Fields } from "#libs/json/fields.js";
import { mutated } from "#test/fixtures/mutate.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";
import { zipOf } from "#test/fixtures/write-zip.js";

const ROUNDS = 200;
/** Far more than the files hold; what a reader believes of a damaged one must not show. */
const MAX_GROWTH_BYTES = 150e6;

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-fuzz-"));
});
after(() => rm(folder, { recursive: true }));

/** Read every array, whatever it claims to be. */
async function readAll(tensors: TensorSource): Promise<void> {
  for (const name of tensors.names) {
    const shape = tensors.shape(name);
    await tensors.floats(name, shape).catch((error: Error) => {
      if (!error.message.includes("must hold floats")) throw error;
      return tensors.integers(name, shape);
    });
  }
}

/**
 * Have `read` take damaged copies of `good`: each must be read or refused as a mismatch, without much memory.
 * @returns how many were refused.
 */
async function fuzz(good: Uint8Array, read: (bytes: Buffer) => Promise<unknown>): Promise<number> {
  let refused = 0;
  const before = process.memoryUsage().rss;
  for (let seed = 0; seed < ROUNDS; seed++) {
    try {
      await read(mutated(good, seed));
    } catch (error) {
      assert.ok(error instanceof AppError && error.kind === "mismatch", `seed ${seed}: ${(error as Error).stack}`);
      refused++;
    }
  }
  const growth = process.memoryUsage().rss - before;
  assert.ok(growth < MAX_GROWTH_BYTES, `grew by ${growth} bytes`);
  return refused;
}

/** Write `bytes` to a file of that name, for readers that want a path. */
async function saved(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

test("damaged TorchScript archives are read or refused", async () => {
  const good = await readFile(join(TINY_FOLDER, "archive.jit"));
  const refused = await fuzz(good, async (bytes) => readAll(await readTorchArchive(await saved("x.jit", bytes))));
  assert.ok(refused > ROUNDS / 2, `${refused}`);
});

test("archives around a damaged pickle are read or refused", async () => {
  const zip = await ZipArchive.open(join(TINY_FOLDER, "archive.jit"));
  const names = zip.names.filter((name) => /data\.pkl$|\/data\//.test(name));
  const entries = await Promise.all(names.map(async (name) => ({ name, bytes: await zip.read(name) })));
  const pickle = entries.find(({ name }) => name.endsWith("data.pkl"))!;
  const refused = await fuzz(pickle.bytes, async (bytes) => {
    const damaged = zipOf(entries.map((entry) => (entry === pickle ? { ...entry, bytes } : entry)));
    await readAll(await readTorchArchive(await saved("x.jit", damaged)));
  });
  assert.ok(refused > ROUNDS / 4, `${refused}`);
});

test("safetensors with a damaged header are read or refused", async () => {
  const whole = await readFile(join(TINY_FOLDER, "lm", "model.safetensors"));
  const headerEnd = 8 + Number(whole.readBigUInt64LE());
  const lm = join(folder, "single");
  await mkdir(lm);
  const refused = await fuzz(whole.subarray(8, headerEnd), async (header) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    await writeFile(join(lm, "model.safetensors"), Buffer.concat([length, header, whole.subarray(headerEnd)]));
    await readAll(await readSafetensorsFolder(lm));
  });
  assert.ok(refused > ROUNDS / 4, `${refused}`);
});

test("damaged indexes of shards are read or refused", async () => {
  const lm = join(folder, "sharded");
  await mkdir(lm);
  const whole = await readFile(join(TINY_FOLDER, "lm", "model.safetensors"));
  await writeFile(join(lm, "a.safetensors"), whole);
  const names = Object.keys(JSON.parse(whole.toString("utf8", 8, 8 + Number(whole.readBigUInt64LE()))) as object);
  const map = Object.fromEntries(names.filter((name) => name !== "__metadata__").map((name) => [name, "a.safetensors"]));
  const refused = await fuzz(Buffer.from(JSON.stringify({ weight_map: map })), async (bytes) => {
    await writeFile(join(lm, "model.safetensors.index.json"), bytes);
    await readSafetensorsFolder(lm);
  });
  assert.ok(refused > ROUNDS / 2, `${refused}`);
});

test("damaged config.json, generation_config.json and tokenizer.json are read or refused", async () => {
  const config = await readFile(join(TINY_FOLDER, "lm", "config.json"));
  await fuzz(config, async (bytes) => parseQwen2Config(await Fields.fromFile(await saved("config.json", bytes))));
  const generation = Buffer.from(JSON.stringify({ repetition_penalty: 1.1, temperature: 0.7, top_k: 20, top_p: 0.8 }));
  await fuzz(generation, async (bytes) => {
    await saved("generation_config.json", bytes);
    await readGenerationConfig(folder);
  });
  const tokenizer = await readFile(join(TINY_FOLDER, "lm", "tokenizer.json"));
  await fuzz(tokenizer, async (bytes) => parseTextVocabulary(bytes.toString("utf8")));
});
