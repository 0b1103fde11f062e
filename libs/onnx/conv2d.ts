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
  const { outputs, inputs, size } = conv;
  const weight = storedConstant(graph, "weight", conv.weight, [outputs, inputs, size, size], weights);
  const pad = (size - 1) / 2;
  return graph.op("Conv", [x, weight, graph.constant("bias", conv.bias, [outputs])], {
    kernel_shape: [size, size], pads: [pad, pad, pad, pad],
  });
}
