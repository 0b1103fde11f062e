import { codeBasis, codeBounds, codebookSize, codeTable } from "#libs/fsq/fsq.js";
import { dataTypeNumber, type Graph, type Value } from "./graph.js";

/**
 * Image tokens to their codes: int64 `[B, h, w]` -> float32 `[B, channels, h, w]`, by a table of all codes.
 * A token outside the codebook makes the run fail.
 */
export function fsqCodes(graph: Graph, tokens: Value, levels: readonly number[]): Value {
  const size = codebookSize(levels);
  const table = graph.constant("codes", codeTable(levels), [size, levels.length]);
  // Gather counts negative indices from the end; sent beyond it they are refused as those too large are.
  const isNegative = graph.op("Less", [tokens, graph.ints(0)]);
  const rows = graph.op("Where", [isNegative, graph.ints(size), tokens]);
  return graph.op("Transpose", [graph.op("Gather", [table, rows], { axis: 0 })], { perm: [0, 3, 1, 2] });
}

/**
 * Latents to the image tokens nearest to them once they are bounded: float32 `[B, channels, h, w]` -> int64 `[B, h, w]`.
 * @see Mentzer et al., arXiv 2309.15505
 */
export function fsqTokens(graph: Graph, latent: Value, levels: readonly number[]): Value {
  const perChannel = (name: string, values: readonly number[]): Value =>
    graph.constant(name, Float32Array.from(values), [levels.length, 1, 1]);
  const bounds = levels.map(codeBounds);
  const shifted = graph.op("Add", [latent, perChannel("shift", bounds.map(({ shift }) => shift))]);
  const scaled = graph.op("Mul", [graph.op("Tanh", [shifted]), perChannel("half", bounds.map(({ half }) => half))]);
  const bounded = graph.op("Sub", [scaled, perChannel("offset", bounds.map(({ offset }) => offset))]);
  const digits = graph.op("Add", [graph.op("Round", [bounded]), perChannel("zero", levels.map((level) => Math.floor(level / 2)))]);
  // Exact: a codebook has fewer tokens than float32 has whole numbers.
  const worth = graph.op("Mul", [digits, perChannel("basis", codeBasis(levels))]);
  const tokens = graph.op("ReduceSum", [worth, graph.ints(1)], { keepdims: 0 });
  return graph.op("Cast", [tokens], { to: dataTypeNumber("int64") });
}
