import type { WeightType } from "#libs/bundle/manifest.js";
import { halvesFromFloats } from "#libs/tensor/half.js";
import { dataTypeNumber, type Graph, type Value } from "./graph.js";

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

/** Weights that share one scale. */
const BLOCK = 32;

/**
 * A linear layer, `[..., columns]` -> `[..., rows]`. The bias stays float32.
 * @param weights fp16 is a way of storing: ONNX Runtime widens the weights when it loads them.
 *   int8 keeps them in blocks of 32 with a scale each, in memory too; the sums run over 8-bit integers. Activations are
 *   rounded row by row, so that a row's result does not depend on the rows beside it, as it would with one scale for all.
 */
export function linear(graph: Graph, x: Value, layer: LinearWeights, weights: WeightType): Value {
  const product = weights === "int8" ? blockwiseProduct(graph, x, layer) : graph.op("MatMul", [x, storedTranspose(graph, layer, weights)]);
  if (layer.bias === undefined) return product;
  return graph.op("Add", [product, graph.constant("bias", layer.bias, [layer.rows])]);
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

function storedTranspose(graph: Graph, { weight, rows, columns }: LinearWeights, weights: "fp32" | "fp16"): Value {
  const transposed = new Float32Array(weight.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) transposed[column * rows + row] = weight[row * columns + column];
  }
  return storedConstant(graph, "weight", transposed, [columns, rows], weights);
}

/** A float constant stored as fp32, or as fp16 and widened when the graph is loaded. */
export function storedConstant(
  graph: Graph, name: string, data: Float32Array, dims: readonly number[], weights: "fp32" | "fp16",
): Value {
  if (weights === "fp32") return graph.constant(name, data, dims);
  return graph.op("Cast", [graph.constant(name, halvesFromFloats(data), dims)], { to: dataTypeNumber("float32") });
}

function blockwiseProduct(graph: Graph, x: Value, layer: LinearWeights): Value {
  const blocks = Math.ceil(layer.columns / BLOCK);
  const { quantized, scales } = quantizeBlocks(layer, blocks);
  return graph.op(
    "com.microsoft.MatMulNBits",
    [x, graph.constant("weight", quantized, [layer.rows, blocks, BLOCK]), graph.constant("scales", scales, [layer.rows, blocks])],
    // Level 4: activations are rounded to 8 bits too. Without it the weights are widened and nothing is gained.
    { K: layer.columns, N: layer.rows, bits: 8, block_size: BLOCK, accuracy_level: 4 },
  );
}

/** Symmetric: a weight is `scale * (q - 128)`; the last block of a row is padded with zeros. */
function quantizeBlocks(
  { weight, rows, columns }: LinearWeights, blocks: number,
): { readonly quantized: Uint8Array; readonly scales: Float32Array } {
  const quantized = new Uint8Array(rows * blocks * BLOCK).fill(128);
  const scales = new Float32Array(rows * blocks);
  for (let index = 0; index < rows * blocks; index++) {
    const start = Math.floor(index / blocks) * columns + (index % blocks) * BLOCK;
    const length = Math.min(BLOCK, columns - (index % blocks) * BLOCK);
    let largest = 0;
    for (let i = 0; i < length; i++) largest = Math.max(largest, Math.abs(weight[start + i]));
    if (largest === 0) continue;
    scales[index] = largest / 127;
    for (let i = 0; i < length; i++) quantized[index * BLOCK + i] = 128 + Math.round(weight[start + i] / scales[index]);
  }
  return { quantized, scales };
}
