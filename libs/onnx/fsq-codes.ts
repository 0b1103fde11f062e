import { codebookSize, codeTable } from "#libs/fsq/fsq.js";
import type { Graph, Value } from "./graph.js";

/**
 * Image tokens to their codes: int64 `[B, h, w]` -> float32 `[B, channels, h, w]`, by a table of all codes.
 * A token outside the codebook makes the run fail.
 */
export function fsqCodes(graph: Graph, tokens: Value, levels: readonly number[]): Value {
  const table = graph.constant("codes", codeTable(levels), [codebookSize(levels), levels.length]);
  return graph.op("Transpose", [graph.op("Gather", [table, tokens], { axis: 0 })], { perm: [0, 3, 1, 2] });
}
