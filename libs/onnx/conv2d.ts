import type { Graph, Value } from "./graph.js";
import { storedConstant } from "./linear.js";

/** A convolution, the way PyTorch keeps it. */
export interface ConvWeights {
  /** `[outputs, inputs, size, size]`, row-major. */
  readonly weight: Float32Array;
  /** `[outputs]`. */
  readonly bias: Float32Array;
  readonly outputs: number;
  readonly inputs: number;
  /** Odd. */
  readonly size: number;
}

/** Convolve `[B, inputs, h, w]` to `[B, outputs, h, w]`, with zeros around it so that the plane keeps its size. */
export function conv2d(graph: Graph, x: Value, conv: ConvWeights, weights: "fp32" | "fp16"): Value {
  const pad = (conv.size - 1) / 2;
  return convolve(graph, x, conv, weights, { pads: [pad, pad, pad, pad] });
}

/**
 * Convolve `[B, inputs, h, w]` to `[B, outputs, h / 2, w / 2]` with a kernel of 3 x 3 whose top left corner stands on every
 * second pixel; there are zeros to the right and below. h and w are even.
 */
export function halvingConv2d(graph: Graph, x: Value, conv: ConvWeights, weights: "fp32" | "fp16"): Value {
  return convolve(graph, x, conv, weights, { pads: [0, 0, 1, 1], strides: [2, 2] });
}

function convolve(
  graph: Graph, x: Value, { weight, bias, outputs, inputs, size }: ConvWeights, weights: "fp32" | "fp16",
  attributes: Readonly<Record<string, readonly number[]>>,
): Value {
  const kernel = storedConstant(graph, "weight", weight, [outputs, inputs, size, size], weights);
  return graph.op("Conv", [x, kernel, graph.constant("bias", bias, [outputs])], { kernel_shape: [size, size], ...attributes });
}
