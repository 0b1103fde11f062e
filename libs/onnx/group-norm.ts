import type { Graph, Value } from "./graph.js";

/**
 * Group norm of `x` `[B, C, h, w]`: each group of C / groups channels is brought to mean 0 and variance 1 over its plane.
 *
 * Means are taken over each plane first and over the group's channels then, the variance from the centred values. The
 * runtime's InstanceNormalization, the usual way to write this, loses three digits on large planes.
 * @param weight `[C]`; @param bias `[C]`.
 * @see Wu & He, arXiv 1803.08494
 */
export function groupNorm(
  graph: Graph, x: Value, weight: Float32Array, bias: Float32Array, groups: number, epsilon: number,
): Value {
  const channels = weight.length;
  const grouped = graph.op("Reshape", [x, graph.ints(0, groups, channels / groups, -1)]);
  const centred = graph.op("Sub", [grouped, groupMean(graph, grouped)]);
  const variance = groupMean(graph, graph.op("Mul", [centred, centred]));
  const deviation = graph.op("Sqrt", [graph.op("Add", [variance, graph.float(epsilon)])]);
  const normal = graph.op("Reshape", [graph.op("Div", [centred, deviation]), graph.op("Shape", [x])]);
  const scaled = graph.op("Mul", [normal, graph.constant("weight", weight, [channels, 1, 1])]);
  return graph.op("Add", [scaled, graph.constant("bias", bias, [channels, 1, 1])]);
}

/** `[B, groups, channels, pixels]` -> `[B, groups, 1, 1]`. */
function groupMean(graph: Graph, grouped: Value): Value {
  const planes = graph.op("ReduceMean", [grouped, graph.ints(3)], { keepdims: 1 });
  return graph.op("ReduceMean", [planes, graph.ints(2)], { keepdims: 1 });
}
