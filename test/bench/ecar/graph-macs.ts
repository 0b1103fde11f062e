import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { invariant } from "#libs/errors/errors.js";
import {
  ModelProtoSchema, TensorProto_DataType as DataType, ValueInfoProtoSchema, type GraphProto, type NodeProto, type ValueInfoProto,
} from "#libs/onnx/schema/gen/onnx_pb.js";

/** What each free dimension of a graph's inputs is, by its name. */
export type Sizes = Readonly<Record<string, number>>;

/** Operators that multiply, and their number of multiplications for one number of their output. */
const MULTIPLIERS: Readonly<Record<string, (shape: (name: string) => readonly number[], node: NodeProto) => number>> = {
  MatMul: (shape, { input: [x] }) => shape(x!).at(-1)!,
  FusedMatMul: (shape, { input: [x] }) => shape(x!).at(-1)!,
  MatMulIntegerToFloat: (shape, { input: [x] }) => shape(x!).at(-1)!,
  Conv: (shape, { input: [, weight] }) => shape(weight!).slice(1).reduce((product, size) => product * size, 1),
  MatMulNBits: (_, { attribute }) => Number(attribute.find(({ name }) => name === "K")!.i),
  // With keys for the scores, with values for the mix.
  MultiHeadAttention: (shape, { input: [, key] }) => 2 * shape(key!)[1]!,
};
/** Operators that would multiply too, but that no graph of ours has. */
const UNKNOWN = ["Gemm", "ConvTranspose", "Einsum", "Attention", "GroupQueryAttention", "ConvInteger", "MatMulInteger", "QLinearMatMul"];

/**
 * Multiplications of one run of an ONNX graph that are summed up: matrix products, those of attention among them, and
 * convolutions. Norms, activations and other work number by number do not count, as in published figures. The graph is run
 * once on zeros, and every product's shape is what it was there.
 * @param graph with its constants inside. @param sizes of every free dimension.
 */
export async function graphMacs(graph: Uint8Array, sizes: Sizes): Promise<number> {
  const model = fromBinary(ModelProtoSchema, graph);
  const { node: nodes, initializer, input, output } = model.graph!;
  const unknown = nodes.find(({ opType }) => UNKNOWN.includes(opType));
  if (unknown !== undefined) throw invariant(`nobody has said what ${unknown.opType} multiplies`);
  const products = nodes.filter(({ opType }) => Object.hasOwn(MULTIPLIERS, opType));
  const constants = new Map(initializer.map(({ name, dims }) => [name, dims.map(Number)]));
  const known = new Set([...constants.keys(), ...input.map(({ name }) => name), ...output.map(({ name }) => name)]);
  const wanted = products.flatMap(({ output: [result], input: [x, y] }) => [result!, x!, y!]);
  const shown = [...new Set(wanted)].filter((name) => !known.has(name));
  output.push(...shown.map((name) => create(ValueInfoProtoSchema, { name })));
  const feeds = zeros(model.graph!, sizes);
  const session = await InferenceSession.create(toBinary(ModelProtoSchema, model), { graphOptimizationLevel: "disabled", logSeverityLevel: 3 });
  try {
    const results = await session.run(feeds);
    const shape = (name: string): readonly number[] => constants.get(name) ?? (results[name] ?? feeds[name])!.dims;
    const count = (dims: readonly number[]): number => dims.reduce((product, size) => product * size, 1);
    return products.reduce((sum, each) => sum + count(shape(each.output[0]!)) * MULTIPLIERS[each.opType]!(shape, each), 0);
  } finally {
    await session.release();
  }
}

function zeros({ input }: GraphProto, sizes: Sizes): Readonly<Record<string, Tensor>> {
  return Object.fromEntries(input.map((each) => {
    const dims = dimsOf(each, sizes);
    const count = dims.reduce((product, size) => product * size, 1);
    const isWhole = each.type?.value.case === "tensorType" && each.type.value.value.elemType === DataType.INT64;
    return [each.name, isWhole ? new Tensor("int64", new BigInt64Array(count), dims) : new Tensor("float32", new Float32Array(count), dims)];
  }));
}

function dimsOf({ name, type }: ValueInfoProto, sizes: Sizes): readonly number[] {
  const { value } = type ?? {};
  if (value?.case !== "tensorType") throw invariant(`input ${name} is no tensor`);
  return value.value.shape!.dim.map(({ value: dim }) => {
    if (dim.case === "dimValue") return Number(dim.value);
    const size = sizes[dim.value ?? ""];
    if (size === undefined) throw invariant(`input ${name} has a dimension ${dim.value}, of which no size is given`);
    return size;
  });
}
