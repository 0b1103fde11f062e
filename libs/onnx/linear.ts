import type { WeightType } from "#libs/bundle/manifest.js";
import { halvesFromFloats } from "#libs/tensor/half.js";
import { dataTypeNumber, type Graph, type Value } from "./graph.js";
import { BLOCK, quantizeBlocks, quantizeRows, transposed } from "./quantize.js";

/** Levels on each side of zero. */
const LEVELS = 127;
/** Levels of a remainder, which is at most half a level in size: -127 .. 127. */
const REMAINDER_LEVELS = 254;

/** `y = x W^T + b`, the way PyTorch keeps it. */
export interface LinearWeights {
  /** `[rows, columns]`, row-major. */
  readonly weight: Float32Array;
  /** Outputs. */
  readonly rows: number;
  /** Inputs. */
  readonly columns: number;
  /** `[rows]`. */
  readonly bias?: Float32Array;
}

/** How finely int8 rounds a layer's inputs: those with outliers need 16 bits, or the rest of their row is lost beside them. */
export type InputBits = 8 | 16;

/**
 * A linear layer, `[..., columns]` -> `[..., rows]`, `[B, S, columns]` with inputs of 16 bits. The bias stays float32.
 *
 * fp16 is a way of storing: ONNX Runtime widens the weights when it loads them. int8 keeps one scale for each output and
 * sums over 8-bit integers, exactly; int4 keeps one scale for each block of 32 weights. Both round the inputs row by row as
 * they come, so that a row's result does not depend on the rows beside it.
 */
export function linear(graph: Graph, x: Value, layer: LinearWeights, weights: WeightType, inputBits: InputBits = 8): Value {
  const product = productOf(graph, x, layer, weights, inputBits);
  if (layer.bias === undefined) return product;
  return graph.op("Add", [product, graph.constant("bias", layer.bias, [layer.rows])]);
}

function productOf(graph: Graph, x: Value, layer: LinearWeights, weights: WeightType, inputBits: InputBits): Value {
  if (weights === "int8") return integerProduct(graph, x, layer, inputBits);
  if (weights === "int4") return blockProduct(graph, x, layer);
  return graph.op("MatMul", [x, storedConstant(graph, "weight", transposed(layer), [layer.columns, layer.rows], weights)]);
}

/** One layer with the outputs of several, in order, that share their input. Either all have a bias or none. */
export function stackLinear(layers: readonly LinearWeights[]): LinearWeights {
  const stacked = {
    weight: concatenate(layers.map((layer) => layer.weight)),
    rows: layers.reduce((sum, layer) => sum + layer.rows, 0),
    columns: layers[0].columns,
  };
  const biases = layers.flatMap((layer) => (layer.bias === undefined ? [] : [layer.bias]));
  return biases.length === 0 ? stacked : { ...stacked, bias: concatenate(biases) };
}

function concatenate(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(arrays.reduce((sum, array) => sum + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}

/** A float constant stored as fp32, or as fp16 and widened when the graph is loaded. */
export function storedConstant(
  graph: Graph, name: string, data: Float32Array, dims: readonly number[], weights: "fp32" | "fp16",
): Value {
  if (weights === "fp32") return graph.constant(name, data, dims);
  return graph.op("Cast", [graph.constant(name, halvesFromFloats(data), dims)], { to: dataTypeNumber("float32") });
}

/**
 * Inputs in 8 bits around a zero point of 128, weights in 8 bits with a sign: the pairing that processors have instructions
 * for. Where they lack those and the kernel would saturate, `createInferenceSession` has the weights made unsigned; signed
 * inputs would be slow everywhere. An input row of zeros has no scale; whatever its levels come to be, the result is
 * multiplied by zero.
 * @see Dettmers et al., arXiv 2208.07339 (one scale for each row of the input and each output)
 */
function integerProduct(graph: Graph, x: Value, layer: LinearWeights, inputBits: InputBits): Value {
  const { quantized, scales } = quantizeRows(layer);
  const weight = graph.constant("weight", quantized, [layer.columns, layer.rows]);
  const outputScales = graph.constant("scales", scales.map((scale) => scale / LEVELS), [layer.rows]);
  const largest = graph.op("ReduceMax", [graph.op("Abs", [x]), graph.ints(-1)], { keepdims: 1 });
  const levels = graph.op("Mul", [x, graph.op("Div", [graph.float(LEVELS), largest])]);
  const product = inputBits === 8
    ? levelProduct(graph, levels, weight, outputScales) : fineProduct(graph, levels, weight, outputScales);
  return graph.op("Mul", [product, largest]);
}

/** Levels -127 .. 127, rounded here, times the weights. */
function levelProduct(graph: Graph, levels: Value, weight: Value, outputScales: Value): Value {
  // Narrowing cuts off, so the half rounds.
  const shifted = graph.op("Cast", [graph.op("Add", [levels, graph.float(128.5)])], { to: dataTypeNumber("uint8") });
  const [inputZero, weightZero] = [graph.constant("zero_point", Uint8Array.of(128), []), graph.constant("zero_point", Int8Array.of(0), [])];
  return graph.op("com.microsoft.MatMulIntegerToFloat", [shifted, weight, graph.float(1), outputScales, inputZero, weightZero]);
}

/** The same in 16 bits, level and remainder: twice the rows `[2, B, S, columns]` in one product, so that weights are read once. */
function fineProduct(graph: Graph, levels: Value, weight: Value, outputScales: Value): Value {
  const both = (level: number, remainder: number): Value =>
    graph.constant("parts", Float32Array.of(level, remainder), [2, 1, 1, 1]);
  const rounded = graph.op("Mul", [graph.op("Round", [levels]), both(1, -REMAINDER_LEVELS)]);
  const parts = graph.op("Add", [graph.op("Mul", [levels, both(0, REMAINDER_LEVELS)]), rounded]);
  const products = levelProduct(graph, parts, weight, outputScales);
  return graph.op("ReduceSum", [graph.op("Mul", [products, both(1, 1 / REMAINDER_LEVELS)]), graph.ints(0)], { keepdims: 0 });
}

function blockProduct(graph: Graph, x: Value, layer: LinearWeights): Value {
  const { packed, scales, blocks } = quantizeBlocks(layer);
  return graph.op(
    "com.microsoft.MatMulNBits",
    [x, graph.constant("weight", packed, [layer.rows, blocks, BLOCK / 2]), graph.constant("scales", scales, [layer.rows, blocks])],
    // Level 4: inputs are rounded to 8 bits too. Without it the weights are widened and nothing is gained.
    { K: layer.columns, N: layer.rows, bits: 4, block_size: BLOCK, accuracy_level: 4 },
  );
}
