import type { Graph, Value } from "./graph.js";

/** Sizes of an attention layer. */
export interface AttentionShape {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
}

/** The cached rows of one layer. */
export interface PastRows {
  /** float32 `[B, H, T, D]`, as the values. */
  readonly key: Value;
  readonly value: Value;
}

/** What positions may see of each other; shared by all layers. */
export interface AttentionBias {
  /** Added to the scores of past positions, `[B, 1, 1, T]`. */
  readonly past: Value;
  /** Added to the scores of new positions, `[G * S, S]`: once for each of the G heads that share a key. */
  readonly window: Value;
  /** T and S, int64 `[2]`. */
  readonly sizes: Value;
}

/** @param past `[B, 1, 1, T]`; @param window `[S, S]`. */
export function attentionBias(graph: Graph, past: Value, window: Value, { heads, keyValueHeads }: AttentionShape): AttentionBias {
  const groups = heads / keyValueHeads;
  const repeated = groups === 1 ? window : graph.op("Concat", Array.from({ length: groups }, () => window), { axis: 0 });
  const [pastSize, newSize] = [past, window].map((value) => graph.op("Shape", [value], { start: -1 }));
  return { past, window: repeated, sizes: graph.op("Concat", [pastSize, newSize], { axis: 0 }) };
}

/**
 * Scaled dot-product attention of new positions over the past and themselves.
 *
 * B rows, S new positions, T past positions (may be 0), H key/value heads, G = heads / H, D head size. The G heads that
 * share a key become rows of one matrix product, so keys are never repeated; the past is read where it lies, never joined
 * with the new.
 * @param query `[B, S, heads * D]`; @param key `[B, H, S, D]`; @param value `[B, H, S, D]`.
 * @returns `[B, S, heads * D]`.
 * @see Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245 (grouped queries)
 */
export function attention(
  graph: Graph, query: Value, key: Value, value: Value, past: PastRows, bias: AttentionBias, shape: AttentionShape,
): Value {
  const { heads, keyValueHeads, headSize } = shape;
  const rows = foldGroups(graph, query, shape);
  const scores = (keys: Value): Value =>
    graph.op("com.microsoft.FusedMatMul", [rows, keys], { transB: 1, alpha: { float: headSize ** -0.5 } });
  const pastScores = graph.op("Add", [scores(past.key), bias.past]);
  const newScores = graph.op("Add", [scores(key), bias.window]);
  const weights = graph.op("Softmax", [graph.op("Concat", [pastScores, newScores], { axis: -1 })], { axis: -1 });
  const [pastWeights, newWeights] = graph.ops("Split", [weights, bias.sizes], 2, { axis: -1 });
  const mixed = graph.op("Add", [graph.op("MatMul", [pastWeights, past.value]), graph.op("MatMul", [newWeights, value])]);
  const grouped = graph.op("Reshape", [mixed, graph.ints(0, keyValueHeads, heads / keyValueHeads, -1, headSize)]);
  const ordered = graph.op("Transpose", [grouped], { perm: [0, 3, 1, 2, 4] });
  return graph.op("Reshape", [ordered, graph.ints(0, 0, heads * headSize)]);
}

/** `[B, S, heads * D]` -> `[B, H, G * S, D]`; head h * G + g reads key h. */
function foldGroups(graph: Graph, query: Value, { heads, keyValueHeads, headSize }: AttentionShape): Value {
  const split = graph.op("Reshape", [query, graph.ints(0, 0, keyValueHeads, heads / keyValueHeads, headSize)]);
  const ordered = graph.op("Transpose", [split], { perm: [0, 2, 3, 1, 4] });
  return graph.op("Reshape", [ordered, graph.ints(0, 0, -1, headSize)]);
}
