import type { AttentionShape } from "./attention.js";
import type { Graph, Value } from "./graph.js";

/** Queries, and the keys and values that they look at. */
export interface AttentionRows {
  /** `[B, S, heads * D]`. */
  readonly query: Value;
  /** `[B, K, H * D]`. */
  readonly key: Value;
  /** `[B, K, H * D]`. */
  readonly value: Value;
}

/**
 * Scaled dot-product attention of every query over all keys, but for what a bias hides.
 *
 * B rows, S queries, K keys, H key/value heads, heads / H queries to a key, D head size.
 * @param bias added to the scores, `[B, 1, 1, S, K]` or what broadcasts to it; left out: every query sees every key.
 * @returns `[B, S, heads * D]`.
 * @see Vaswani et al., arXiv 1706.03762; Ainslie et al., arXiv 2305.13245 (grouped queries)
 */
export function fullAttention(
  graph: Graph, { query, key, value }: AttentionRows, { heads, keyValueHeads, headSize }: AttentionShape, bias?: Value,
): Value {
  const byHead = (rows: Value, groups: number, perm: readonly number[]): Value =>
    graph.op("Transpose", [graph.op("Reshape", [rows, graph.ints(0, 0, keyValueHeads, groups, headSize)])], { perm });
  const scaled = graph.op("Mul", [query, graph.float(headSize ** -0.5)]);
  const queries = byHead(scaled, heads / keyValueHeads, [0, 2, 3, 1, 4]);
  const scores = graph.op("MatMul", [queries, byHead(key, 1, [0, 2, 3, 4, 1])]);
  const weights = graph.op("Softmax", [bias === undefined ? scores : graph.op("Add", [scores, bias])], { axis: -1 });
  const mixed = graph.op("MatMul", [weights, byHead(value, 1, [0, 2, 3, 1, 4])]);
  return graph.op("Reshape", [graph.op("Transpose", [mixed], { perm: [0, 3, 1, 2, 4] }), graph.ints(0, 0, heads * headSize)]);
}
