import type { Graph, Value } from "./graph.js";

/** Make every pixel of `[B, C, h, w]` a square of four. */
export function upsampleNearest(graph: Graph, x: Value): Value {
  const scales = graph.constant("scales", new Float32Array([1, 1, 2, 2]), [4]);
  return graph.op("Resize", [x, { name: "" }, scales], {
    mode: "nearest", coordinate_transformation_mode: "asymmetric", nearest_mode: "floor",
  });
}
