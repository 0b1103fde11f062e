import type { Graph, Value } from "./graph.js";

/** Sizes of an attention layer. */
export interface AttentionShape {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
}

/** What queries may look at besides themselves. */
export interface AttentionContext {
  /** float32 `[B, H, D, T]`. */
  readonly pastKey: Value;
  /** float32 `[B, H, T, D]`. */
  readonly pastValue: Value;
  /** Added to the scores of past positions, `[B, 1, 1, T]`. */
  readonly pastBias: Value;
  /** Added to the scores of new positions, `[G * S, S]`: once for each of the G heads that share a key. */
  readonly windowBias: Value;
}

/**
 * Scaled dot-product attention of new positions over the past and themselves.
 *
 * B rows, S new positions, T past positions (may be 0), H key/value heads, G = heads / H, D head size. The G heads that
 * share a key become rows of one matrix product, so keys are never repeated; the past is read where it lies, never joined
 * with the new.
 * @param query `[B, S, heads, D]`; @param key `[B, H, D, S]`; @param value `[B, H, S, D]`.
 * @returns `[B, S, heads * D]`.
 * @see Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245 (grouped queries)
 */
export function attention(
  graph: Graph, query: Value, key: Value, value: Value, context: AttentionContext, shape: AttentionShape,
): Value {
  const { heads, keyValueHeads, headSize } = shape;
  const groups = heads / keyValueHeads;
  const scaled = graph.op("Mul", [query, graph.float(headSize ** -0.5)]);
  const rows = foldGroups(graph, scaled, shape);
  const pastScores = graph.op("Add", [graph.op("MatMul", [rows, context.pastKey]), context.pastBias]);
  const newScores = graph.op("Add", [graph.op("MatMul", [rows, key]), context.windowBias]);
  const weights = graph.op("Softmax", [graph.op("Concat", [pastScores, newScores], { axis: -1 })], { axis: -1 });
  const sizes = graph.op("Concat", [lastSize(graph, pastScores), lastSize(graph, newScores)], { axis: 0 });
  const [pastWeights, newWeights] = graph.ops("Split", [weights, sizes], 2, { axis: -1 });
  const mixed = graph.op("Add", [
    graph.op("MatMul", [pastWeights, context.pastValue]), graph.op("MatMul", [newWeights, value]),
  ]);
  const grouped = graph.op("Reshape", [mixed, graph.ints(0, keyValueHeads, groups, -1, headSize)]);
  const ordered = graph.op("Transpose", [grouped], { perm: [0, 3, 1, 2, 4] });
  return graph.op("Reshape", [ordered, graph.ints(0, 0, heads * headSize)]);
}

/** The bias `[S, S]` between new positions as `attention` wants it, `[G * S, S]`. */
export function repeatWindowBias(graph: Graph, windowBias: Value, { heads, keyValueHeads }: AttentionShape): Value {
  const groups = heads / keyValueHeads;
  return groups === 1 ? windowBias : graph.op("Concat", Array.from({ length: groups }, () => windowBias), { axis: 0 });
}

/** `[B, S, heads, D]` -> `[B, H, G * S, D]`; head h * G + g reads key h. */
function foldGroups(graph: Graph, query: Value, { heads, keyValueHeads, headSize }: AttentionShape): Value {
  const split = graph.op("Reshape", [query, graph.ints(0, 0, keyValueHeads, heads / keyValueHeads, headSize)]);
  const ordered = graph.op("Transpose", [split], { perm: [0, 2, 3, 1, 4] });
  return graph.op("Reshape", [ordered, graph.ints(0, 0, -1, headSize)]);
}

function lastSize(graph: Graph, value: Value): Value {
  return graph.op("Shape", [value], { start: -1 });
}
