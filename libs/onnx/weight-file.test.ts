import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { Graph } from "./graph.js";
import { ModelProtoSchema } from "./schema/gen/onnx_pb.js";
import { WeightFile } from "./weight-file.js";

/** Rows of 1 MiB, so that 64 of them still fit into a graph's own file. */
const COLUMNS = 2 ** 18;

let folder: string;
let path: string;
let weightFile: WeightFile;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-weights-"));
  path = join(folder, "graph.onnx.data");
  weightFile = new WeightFile(path);
});
afterEach(async () => {
  weightFile.close();
  await rm(folder, { recursive: true });
});

/** `y = x + sum of all rows`: row i holds the number i. */
function sumOfRows(rows: number): Uint8Array {
  const graph = new Graph("sum", weightFile);
  let y = graph.op("Add", [graph.input("x", "float32", [1]), graph.constant("small", Float32Array.of(0.5), [1])]);
  for (let row = 0; row < rows; row++) {
    const constant = graph.constant("row", new Float32Array(COLUMNS).fill(row), [COLUMNS]);
    y = graph.op("Add", [y, graph.op("Slice", [constant, graph.ints(COLUMNS - 1), graph.ints(COLUMNS)])]);
  }
  graph.output("y", y, "float32", [1]);
  return graph.toBytes();
}

test("what is appended starts at pages and is read back unchanged", async () => {
  const parts = [[1, 2, 3], [], Array.from({ length: 5000 }, (_, index) => index % 251), [9]].map((bytes) => Uint8Array.from(bytes));
  const places = parts.map((bytes) => weightFile.append(bytes));
  weightFile.close();
  weightFile.close();
  assert.deepEqual(places.map(({ offset }) => offset), [0, 4096, 4096, 12288]);
  const file = await readFile(path);
  assert.equal(file.length, 12289);
  for (const [index, { location, offset, length }] of places.entries()) {
    assert.equal(location, "graph.onnx.data");
    assert.deepEqual(Uint8Array.from(file.subarray(offset, offset + length)), parts[index]);
  }
});

test("a graph of up to 64 MiB keeps its constants inside and makes no file", () => {
  const bytes = sumOfRows(64);
  assert.ok(bytes.length > 64 * 2 ** 20);
  assert.ok(!existsSync(path));
});

test("a larger graph writes large constants beside it, in order, and runs", async () => {
  const bytes = sumOfRows(65);
  weightFile.close();
  const initializers = fromBinary(ModelProtoSchema, bytes).graph?.initializer ?? [];
  const moved = initializers.filter((each) => each.rawData.length === 0);
  assert.deepEqual(moved.map(({ name }) => name).slice(0, 2), ["row", "row.1"]);
  assert.deepEqual(moved[2].externalData.map(({ key, value }) => `${key}=${value}`), [
    "location=graph.onnx.data", "offset=2097152", "length=1048576",
  ]);
  assert.equal(moved.length, 65);
  assert.ok(initializers.some(({ name, rawData }) => name === "small" && rawData.length === 4));
  assert.equal((await stat(path)).size, 65 * 2 ** 20);
  await writeFile(join(folder, "graph.onnx"), bytes);
  const session = await InferenceSession.create(join(folder, "graph.onnx"), { executionProviders: ["cpu"], logSeverityLevel: 3 });
  const { y } = await session.run({ x: new Tensor("float32", [1], [1]) });
  await session.release();
  assert.deepEqual([...(y.data as Float32Array)], [1.5 + (64 * 65) / 2]);
});
