import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readSafetensors, readSafetensorsFolder } from "#libs/convert/safetensors.js";
import { TensorSource } from "#libs/convert/tensor-source.js";
import { readTorchArchive } from "#libs/convert/torch-archive.js";
import { readGoldens } from "#test/fixtures/goldens.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";
import { writeSafetensors } from "#test/fixtures/write-safetensors.js";

const ARCHIVE = join(TINY_FOLDER, "archive.jit");
const INTEGERS = ["longs", "ints"];

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-readers-"));
});
after(() => rm(folder, { recursive: true }));

async function saved(name: string, bytes: Uint8Array | string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

test("a TorchScript archive gives the arrays that torch.jit.load gives: all types, shared, offset and strided", async () => {
  const archive = await readTorchArchive(ARCHIVE);
  const goldens = await readGoldens();
  const names = goldens.names.filter((name) => name.startsWith("archive.")).map((name) => name.slice("archive.".length));
  assert.deepEqual([...archive.names].sort(), [...names].sort());
  for (const name of names) {
    const shape = goldens.shape(`archive.${name}`);
    const read = (source: TensorSource, key: string) => (INTEGERS.includes(name) ? source.integers(key, shape) : source.floats(key, shape));
    assert.deepEqual(await read(archive, name), await read(goldens, `archive.${name}`), name);
  }
  archive.finish();
});

test("a TorchScript archive cut short anywhere is refused", async () => {
  const bytes = await readFile(ARCHIVE);
  for (const length of [0, 10, 100, bytes.length / 2, bytes.length - 30, bytes.length - 1].map(Math.floor)) {
    const path = await saved("short.jit", bytes.subarray(0, length));
    await assert.rejects(readTorchArchive(path), { kind: "mismatch", message: "short.jit: cut short, damaged or no zip file" });
  }
});

test("a damaged storage or pickle of a TorchScript archive is refused", async () => {
  const bytes = await readFile(ARCHIVE);
  const pickle = Buffer.from(bytes);
  pickle[pickle.indexOf("transposed")] ^= 1;
  await assert.rejects(readTorchArchive(await saved("pickle.jit", pickle)), /pickle\.jit: entry `archive\/data\.pkl` is damaged/);
  const storage = Buffer.from(bytes);
  const base = new Uint8Array((await (await readTorchArchive(ARCHIVE)).floats("base", [6, 8])).buffer);
  storage[storage.indexOf(base)] ^= 1;
  const damaged = await readTorchArchive(await saved("storage.jit", storage));
  await assert.rejects(damaged.floats("base", [6, 8]), /storage\.jit: entry `archive\/data\/0` is damaged/);
});

test("safetensors of all types and shards give their arrays", async () => {
  const float = { type: "F32", shape: [2], data: Float32Array.of(1.5, -2) } as const;
  const bfloat = { type: "BF16", shape: [1, 2], data: Uint16Array.of(0x3fc0, 0xc000) } as const;
  const half = { type: "F16", shape: [2], data: Uint16Array.of(0x3e00, 0xc000) } as const;
  await writeSafetensors(join(folder, "a.safetensors"), { float, bfloat });
  await writeSafetensors(join(folder, "b.safetensors"), { half });
  await saved("model.safetensors.index.json", JSON.stringify({
    weight_map: { float: "a.safetensors", bfloat: "a.safetensors", half: "b.safetensors" },
  }));
  const source = await readSafetensorsFolder(folder);
  for (const [name, shape] of [["float", [2]], ["bfloat", [1, 2]], ["half", [2]]] as const) {
    assert.deepEqual([...(await source.floats(name, shape))], [1.5, -2], name);
  }
  source.finish();
});

test("an index that names arrays its shards lack is refused", async () => {
  await writeSafetensors(join(folder, "c.safetensors"), { x: { type: "F32", shape: [1], data: Float32Array.of(1) } });
  const index = (map: Record<string, string>): Promise<string> => saved("model.safetensors.index.json", JSON.stringify({ weight_map: map }));
  await index({ x: "c.safetensors", y: "c.safetensors" });
  await assert.rejects(readSafetensorsFolder(folder), { kind: "mismatch", message: "c.safetensors: array `y` is missing" });
  await index({ y: "c.safetensors" });
  await assert.rejects(readSafetensorsFolder(folder), { message: "c.safetensors: holds `x`, which the index does not place there" });
  await index({ x: "../c.safetensors" });
  await assert.rejects(readSafetensorsFolder(folder), { message: "model.safetensors.index.json: shards must be plain file names" });
});

/** A safetensors file with the given header over eight bytes of data. */
function withHeader(header: unknown): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(8)]);
}

test("malformed safetensors are refused with what is wrong", async () => {
  const whole = withHeader({ x: { dtype: "F32", shape: [2], data_offsets: [0, 8] } });
  const cases: readonly (readonly [bytes: Uint8Array, message: RegExp])[] = [
    [whole.subarray(0, 5), /cut short, 5 bytes/],
    [whole.subarray(0, 20), /its header would take/],
    [whole.subarray(0, whole.length - 1), /cut short or padded, its arrays take 8 bytes but 7 are there/],
    [Buffer.concat([whole, Buffer.alloc(1)]), /its arrays take 8 bytes but 9 are there/],
    [withHeader("{"), /is not valid JSON/],
    [withHeader({ x: { dtype: "F31", shape: [2], data_offsets: [0, 8] } }), /`x` must be one of F32, .* got F31/],
    [withHeader({ x: { dtype: "F32", shape: [-2], data_offsets: [0, 8] } }), /`x` has no valid shape/],
    [withHeader({ x: { dtype: "F32", shape: [3], data_offsets: [0, 8] } }), /`x` must take 12 bytes, its data_offsets give 8/],
    [withHeader({ x: { dtype: "F32", shape: [2] } }), /`x` has no valid data_offsets/],
    [withHeader({ x: null }), /`x` must be one of/],
    [withHeader({ x: { dtype: "F32", shape: [1], data_offsets: [4, 8] } }), /`x` must start at byte 0 of the data, got 4/],
    [withHeader({ x: { dtype: "F32", shape: [2], data_offsets: [0, 8] }, y: { dtype: "F32", shape: [1], data_offsets: [4, 8] } }),
      /`y` must start at byte 8 of the data, got 4/],
  ];
  for (const [bytes, message] of cases) {
    await assert.rejects(readSafetensors(await saved("x.safetensors", bytes)), message);
  }
});
