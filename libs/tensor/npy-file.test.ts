import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { NpyFile } from "./npy-file.js";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-npy-"));
});
after(() => rm(folder, { recursive: true }));

test("the bytes are those that numpy.save writes", async () => {
  const path = join(folder, "a.npy");
  const file = await NpyFile.create(path, [2, 3]);
  await file.append(Float32Array.of(1, 2, 3, 4));
  await file.append(Float32Array.of(9, 5, 6).subarray(1));
  await file.finish();
  const bytes = await readFile(path);
  // numpy.save(..., numpy.array([[1, 2, 3], [4, 5, 6]], "float32"))
  const text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  assert.equal(bytes.subarray(0, 128).toString("latin1"), `\x93NUMPY\x01\x00\x76\x00${text.padEnd(117)}\n`);
  assert.deepEqual([...new Float32Array(new Uint8Array(bytes.subarray(128)).buffer)], [1, 2, 3, 4, 5, 6]);
  assert.equal(existsSync(`${path}.part`), false);
});

test("one axis has numpy's comma", async () => {
  const path = join(folder, "b.npy");
  const file = await NpyFile.create(path, [1]);
  await file.append(Float32Array.of(7));
  await file.finish();
  assert.match((await readFile(path)).toString("latin1"), /'shape': \(1,\), \} +\n/);
});

test("too many numbers, too few, and a discarded file leave nothing under the name", async () => {
  const path = join(folder, "c.npy");
  const file = await NpyFile.create(path, [2, 2]);
  await file.append(Float32Array.of(1, 2, 3));
  await assert.rejects(file.append(Float32Array.of(4, 5)), /room for 1 numbers, got 2/);
  await assert.rejects(file.finish(), /lacks 1 numbers/);
  await file.discard();
  assert.deepEqual([existsSync(path), existsSync(`${path}.part`)], [false, false]);
});
