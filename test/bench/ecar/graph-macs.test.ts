import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { openBundle } from "#libs/bundle/bundle.js";
import { fullAttention } from "#libs/onnx/full-attention.js";
import { Graph } from "#libs/onnx/graph.js";
import { linear } from "#libs/onnx/linear.js";
import { planeAttention } from "#libs/onnx/plane-attention.js";
import { tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";
import { graphMacs } from "./graph-macs.js";

const weights = (rows: number, columns: number) => ({ weight: new Float32Array(rows * columns).fill(1), rows, columns });

for (const type of ["fp32", "fp16", "int8", "int4"] as const) {
  test(`a linear layer in ${type} multiplies every number of its input with each output's weights`, async () => {
    const graph = new Graph("linear");
    const x = graph.input("x", "float32", ["B", "S", 64]);
    graph.output("y", linear(graph, x, weights(5, 64), type), "float32", ["B", "S", 5]);
    assert.equal(await graphMacs(graph.toBytes(), { B: 2, S: 3 }), 2 * 3 * 64 * 5);
  });
}

test("a convolution multiplies its whole window for each number of its output, a strided one for fewer", async () => {
  for (const [stride, outputs] of [[1, 5 * 7], [2, 3 * 4]] as const) {
    const graph = new Graph("conv");
    const x = graph.input("x", "float32", [1, 2, "h", "w"]);
    const kernel = graph.constant("kernel", new Float32Array(3 * 2 * 3 * 3), [3, 2, 3, 3]);
    graph.output("y", graph.op("Conv", [x, kernel], { pads: [1, 1, 1, 1], strides: [stride, stride] }), "float32", [1, 3, "a", "b"]);
    assert.equal(await graphMacs(graph.toBytes(), { h: 5, w: 7 }), outputs * 3 * 2 * 9);
  }
});

test("attention multiplies queries with keys, and weights with values, for every head", async () => {
  const graph = new Graph("attention");
  const [query, key, value] = [["query", "S", 24], ["key", "K", 12], ["value", "K", 12]].map(([name, rows, width]) =>
    graph.input(String(name), "float32", ["B", String(rows), Number(width)]));
  const shape = { heads: 4, keyValueHeads: 2, headSize: 6 };
  graph.output("y", fullAttention(graph, { query: query!, key: key!, value: value! }, shape), "float32", ["B", "S", 24]);
  assert.equal(await graphMacs(graph.toBytes(), { B: 2, S: 3, K: 5 }), 2 * (2 * 4 * 3 * 5 * 6));
});

test("attention between pixels counts the same in the runtime's own operator", async () => {
  const graph = new Graph("plane");
  const planes = ["query", "key", "value"].map((name) => graph.input(name, "float32", [1, 32, "h", "w"]));
  graph.output("y", planeAttention(graph, planes[0]!, planes[1]!, planes[2]!), "float32", [1, 32, "h", "w"]);
  assert.equal(await graphMacs(graph.toBytes(), { h: 3, w: 4 }), 2 * 12 * 12 * 32);
});

test("a stage transformer's graph has what its sizes say", async () => {
  const { manifest, path } = await openBundle(await tinyStageBundle());
  assert.ok(manifest.family === "ecar");
  const graph = await readFile(path(manifest.transformer.file));
  // 16 text tokens and one cell, which see each other: 2 layers of width 32, inner width 48, keys of 16.
  const [count, width, inner, keys] = [17, 32, 48, 16];
  const layer = count * (2 * width * width + 2 * width * keys + 3 * width * inner) + 2 * count * count * width;
  // The map is made of the cell alone, as is what the latent holds.
  const ends = 4 * width + width * 12;
  const sizes = { B: 1, P: count - 1, N: 1, S: count, Q: count, K: count, T: 0 };
  assert.equal(await graphMacs(graph, sizes), 2 * layer + ends);
});

test("what it cannot count it refuses", async () => {
  const graph = new Graph("gemm");
  const x = graph.input("x", "float32", [2, 3]);
  graph.output("y", graph.op("Gemm", [x, graph.constant("w", new Float32Array(12), [3, 4])]), "float32", [2, 4]);
  await assert.rejects(graphMacs(graph.toBytes(), {}), { kind: "internal", message: /Gemm/ });
  const open = new Graph("open");
  open.output("y", open.op("Neg", [open.input("x", "float32", ["B"])]), "float32", ["B"]);
  await assert.rejects(graphMacs(open.toBytes(), {}), { kind: "internal", message: /dimension B/ });
});
