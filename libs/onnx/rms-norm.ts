import type { Graph, Value } from "./graph.js";

/**
 * Root-mean-square norm over the last axis, `x / sqrt(mean(x^2) + epsilon) * weight`, in float32.
 * Written with `Pow`, the form that ONNX Runtime recognises and runs as one kernel.
 * @param weight `[size]`.
 * @see Zhang & Sennrich, arXiv 1910.07467
 */
export function rmsNorm(graph: Graph, x: Value, weight: Float32Array, epsilon: number): Value {
  const meanSquare = graph.op("ReduceMean", [graph.op("Pow", [x, graph.float(2)]), graph.ints(-1)], { keepdims: 1 });
  const root = graph.op("Sqrt", [graph.op("Add", [meanSquare, graph.float(epsilon)])]);
  return graph.op("Mul", [graph.op("Div", [x, root]), graph.constant("weight", weight, [weight.length])]);
}
