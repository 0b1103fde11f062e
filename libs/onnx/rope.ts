import { dataTypeNumber, type Graph, type Value } from "./graph.js";

/** The rotation of every new position, `[B, S, 1, D]`. */
export interface Rotation {
  readonly cos: Value;
  /** Negated in the first half of D, so that a rotation is two products and a sum. */
  readonly signedSin: Value;
}

/**
 * The rotation that rotary embedding gives each position; shared by all layers.
 * @param positions int64 `[B, S]`.
 * @param theta base of the wave lengths, e.g. 1e6.
 * @see Su et al., arXiv 2104.09864
 */
export function rotation(graph: Graph, positions: Value, headSize: number, theta: number): Rotation {
  const half = headSize / 2;
  const frequencies = Float32Array.from({ length: half }, (_, index) => inverseFrequency(index, half, theta));
  const position = graph.op("Unsqueeze", [graph.op("Cast", [positions], { to: dataTypeNumber("float32") }), graph.ints(2, 3)]);
  const angle = graph.op("Mul", [position, graph.constant("inverse_frequency", frequencies, [half])]);
  const cos = graph.op("Cos", [angle]);
  const sin = graph.op("Sin", [angle]);
  return {
    cos: graph.op("Concat", [cos, cos], { axis: -1 }),
    signedSin: graph.op("Concat", [graph.op("Neg", [sin]), sin], { axis: -1 }),
  };
}

/** Rotate every head of `x`, `[B, S, heads, D]`; element i turns with element i + D/2. */
export function rotate(graph: Graph, x: Value, { cos, signedSin }: Rotation): Value {
  const [first, second] = graph.ops("Split", [x], 2, { axis: -1, num_outputs: 2 });
  const swapped = graph.op("Concat", [second, first], { axis: -1 });
  return graph.op("Add", [graph.op("Mul", [x, cos]), graph.op("Mul", [swapped, signedSin])]);
}

/** Rounded to float32 at each step, as the reference does: at large positions the last bit shows. */
function inverseFrequency(index: number, half: number, theta: number): number {
  return Math.fround(1 / Math.fround(theta ** Math.fround(index / half)));
}
