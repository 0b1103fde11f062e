import type { Graph, Value } from "./graph.js";

/**
 * Attention of every pixel over all pixels with a single head as wide as the plane is deep.
 * @param query, key, value `[B, channels, h, w]`.
 * @returns `[B, channels, h, w]`.
 * @see Wang et al., "Non-local neural networks", arXiv 1711.07971
 */
export function planeAttention(graph: Graph, query: Value, key: Value, value: Value, channels: number): Value {
  const [queries, keys, values] = [query, key, value].map((plane) => graph.op("Reshape", [plane, graph.ints(0, 0, -1)]));
  const scaled = graph.op("Mul", [queries, graph.float(channels ** -0.5)]);
  const scores = graph.op("MatMul", [graph.op("Transpose", [scaled], { perm: [0, 2, 1] }), keys]); // [B, query, key]
  const weights = graph.op("Softmax", [scores], { axis: -1 });
  const mixed = graph.op("MatMul", [values, graph.op("Transpose", [weights], { perm: [0, 2, 1] })]);
  return graph.op("Reshape", [mixed, graph.op("Shape", [query])]);
}
