import type { Graph, Value } from "./graph.js";

/** What rotates heads by their position. */
export interface Rotation {
  /** int64 `[B, S]`. */
  readonly positions: Value;
  /** `[maxPositions, D / 2]`. */
  readonly cos: Value;
  readonly sin: Value;
}

/** Wave lengths and reach of a rotary embedding. */
export interface RotationShape {
  readonly headSize: number;
  /** Base of the wave lengths, e.g. 1e6. */
  readonly ropeTheta: number;
  readonly maxPositions: number;
}

/**
 * The rotation that rotary embedding gives each position; shared by all layers. Angles are rounded to float32 as the
 * reference rounds them, where at large positions the last bit shows; their sines are exact.
 * @param positions int64 `[B, S]`, each below `maxPositions`.
 * @see Su et al., arXiv 2104.09864
 */
export function rotation(graph: Graph, positions: Value, { headSize, ropeTheta, maxPositions }: RotationShape): Rotation {
  const half = headSize / 2;
  const frequencies = Array.from({ length: half }, (_, index) => inverseFrequency(index, half, ropeTheta));
  const angles = Array.from({ length: maxPositions * half }, (_, i) => Math.fround(Math.floor(i / half) * frequencies[i % half]));
  const table = (name: string, wave: (angle: number) => number): Value =>
    graph.constant(name, Float32Array.from(angles, wave), [maxPositions, half]);
  return { positions, cos: table("cos", Math.cos), sin: table("sin", Math.sin) };
}

/** Rotate every head of `x`, `[B, S, heads * D]`; element i of a head turns with element i + D/2. */
export function rotate(graph: Graph, x: Value, { positions, cos, sin }: Rotation): Value {
  return graph.op("com.microsoft.RotaryEmbedding", [x, positions, cos, sin]);
}

/** Rounded to float32 at each step, as the reference does. */
function inverseFrequency(index: number, half: number, theta: number): number {
  return Math.fround(1 / Math.fround(theta ** Math.fround(index / half)));
}
