import type { Graph, Value } from "./graph.js";

/**
 * Attention of every pixel over all pixels with a single head as wide as the plane is deep.
 *
 * The runtime's fused operator takes queries and keys in tiles: a plane of 96 x 96 needs no score matrix of 340 MB.
 * @param query, key, value `[B, channels, h, w]`.
 * @returns `[B, channels, h, w]`.
 * @see Wang et al., "Non-local neural networks", arXiv 1711.07971; Dao et al., arXiv 2205.14135
 */
export function planeAttention(graph: Graph, query: Value, key: Value, value: Value): Value {
  const rows = [query, key, value].map((plane) => swapAxes(graph, graph.op("Reshape", [plane, graph.ints(0, 0, -1)])));
  const mixed = graph.op("com.microsoft.MultiHeadAttention", rows, { num_heads: 1 });
  return graph.op("Reshape", [swapAxes(graph, mixed), graph.op("Shape", [query])]);
}

/** `[B, channels, pixels]` <-> `[B, pixels, channels]`. */
function swapAxes(graph: Graph, x: Value): Value {
  return graph.op("Transpose", [x], { perm: [0, 2, 1] });
}
