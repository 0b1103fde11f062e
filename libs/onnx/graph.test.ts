import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { Graph } from "./graph.js";
import { ModelProtoSchema, TensorProto_DataType as DataType } from "./schema/gen/onnx_pb.js";

function example(): Uint8Array {
  const graph = new Graph("example");
  const x = graph.input("x", "float32", ["B", 3]);
  const sum = graph.scope("outer", () => {
    const first = graph.op("Add", [x, graph.constant("bias", new Float32Array([1, 2, 3]), [3])]);
    return graph.scope("inner", () => graph.op("Add", [first, graph.float(2)]));
  });
  const [a, b] = graph.ops("Split", [sum, graph.ints(1, 2)], 2, { axis: 1 });
  const product = graph.op("com.microsoft.Example", [a, b, graph.float(2), graph.ints(1, 2)], { mode: "fast", perm: [1, 0] });
  graph.output("y", product, "float32", ["B", 3]);
  return graph.toBytes();
}

test("equal calls give equal bytes", () => {
  assert.deepEqual(example(), example());
});

test("names carry their scope and stay unique, equal small constants are one", () => {
  const { graph, opsetImport } = fromBinary(ModelProtoSchema, example());
  assert.deepEqual(graph?.node.map((node) => node.name), ["outer/Add", "outer/inner/Add", "Split", "Example", "output/y"]);
  assert.deepEqual(graph?.initializer.map((each) => each.name), ["outer/bias", "float32(2)", "int64(1,2)"]);
  assert.deepEqual(graph?.node[3].input, ["Split:0", "Split:1", "float32(2)", "int64(1,2)"]);
  assert.deepEqual(opsetImport.map(({ domain, version }) => [domain, version]), [["", 21n], ["com.microsoft", 1n]]);
});

test("constants are written little-endian with their type and sizes", () => {
  const bias = fromBinary(ModelProtoSchema, example()).graph?.initializer[0];
  assert.equal(bias?.dataType, DataType.FLOAT);
  assert.deepEqual(bias?.dims, [3n]);
  assert.deepEqual([...(bias?.rawData ?? [])], [0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40]);
});

test("a constant whose sizes do not fit its elements is refused", () => {
  const graph = new Graph("example");
  assert.throws(() => graph.constant("w", new Float32Array(5), [2, 3]), /constant w: \[2, 3\] has 6 elements, got 5/);
});
