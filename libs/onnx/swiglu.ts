import type { WeightType } from "#libs/bundle/manifest.js";
import type { Graph, Value } from "./graph.js";
import { linear, stackLinear, type LinearWeights } from "./linear.js";

/** The three layers of a gated feed-forward block. */
export interface SwigluWeights {
  readonly gate: LinearWeights;
  readonly up: LinearWeights;
  readonly down: LinearWeights;
}

/**
 * Gated feed-forward block, `down(silu(gate(x)) * up(x))`; gate and up run as one product.
 * The product that enters `down` is where transformers have their largest outliers.
 * @see Shazeer, arXiv 2002.05202; Sun et al., arXiv 2402.17762 (massive activations)
 */
export function swiglu(graph: Graph, x: Value, { gate, up, down }: SwigluWeights, weights: WeightType): Value {
  const both = graph.scope("gate_up", () => linear(graph, x, stackLinear([gate, up]), weights));
  const [gated, linearPart] = graph.ops("Split", [both], 2, { axis: -1, num_outputs: 2 });
  const product = graph.op("Mul", [silu(graph, gated), linearPart]);
  return graph.scope("down", () => linear(graph, product, down, weights, 16));
}

/** `x * sigmoid(x)`, element by element; also called swish. */
export function silu(graph: Graph, x: Value): Value {
  return graph.op("Mul", [x, graph.op("Sigmoid", [x])]);
}
