import type { Graph, Value } from "./graph.js";

/**
 * One level of the Haar transform, `[B, C, 2h, 2w]` -> `[B, 4C, h, w]`:
 * `X[u][v][i, j] = 1/4 sum over a, b of (-1)^(a v + b u) y[2i+a, 2j+b]`.
 *
 * The four bands X[u][v] lie one after the other along the channels, u (high along the width) the slower index.
 * @see NVIDIA Cosmos-Tokenizer, modules/patching.py, for the order of the bands and the factor
 */
export function haar(graph: Graph, y: Value): Value {
  const pixels = graph.op("SpaceToDepth", [graph.op("Mul", [y, graph.float(0.25)])], { blocksize: 2 });
  const [topLeft, topRight, bottomLeft, bottomRight] = graph.ops("Split", [pixels], 4, { axis: 1, num_outputs: 4 });
  const [evenSum, oddSum] = butterfly(graph, topLeft, bottomLeft); // columns b = 0 of the bands low and high along the height
  const [evenDifference, oddDifference] = butterfly(graph, topRight, bottomRight);
  const [low, highLow] = butterfly(graph, evenSum, evenDifference);
  const [lowHigh, high] = butterfly(graph, oddSum, oddDifference);
  return graph.op("Concat", [low, lowHigh, highLow, high], { axis: 1 });
}

/**
 * The inverse of `haar`, `[B, 4C, h, w]` -> `[B, C, 2h, 2w]`:
 * `y[2i+a, 2j+b] = sum over u, v of (-1)^(a v + b u) X[u][v][i, j]`.
 */
export function inverseHaar(graph: Graph, x: Value): Value {
  const [low, lowHigh, highLow, high] = graph.ops("Split", [x], 4, { axis: 1, num_outputs: 4 });
  const [evenSum, evenDifference] = butterfly(graph, low, highLow); // columns b = 0, 1 of the bands low along the height
  const [oddSum, oddDifference] = butterfly(graph, lowHigh, high);
  const [topLeft, bottomLeft] = butterfly(graph, evenSum, oddSum);
  const [topRight, bottomRight] = butterfly(graph, evenDifference, oddDifference);
  const pixels = graph.op("Concat", [topLeft, topRight, bottomLeft, bottomRight], { axis: 1 });
  return graph.op("DepthToSpace", [pixels], { blocksize: 2, mode: "DCR" });
}

function butterfly(graph: Graph, a: Value, b: Value): readonly [sum: Value, difference: Value] {
  return [graph.op("Add", [a, b]), graph.op("Sub", [a, b])];
}
