import type { WeightType } from "#libs/bundle/manifest.js";
import type { AttentionShape } from "#libs/onnx/attention.js";
import { fullAttention } from "#libs/onnx/full-attention.js";
import type { Graph, Value } from "#libs/onnx/graph.js";
import { linear, stackLinear } from "#libs/onnx/linear.js";
import { rmsNorm } from "#libs/onnx/rms-norm.js";
import { rotate, type Rotation } from "#libs/onnx/rope.js";
import { swiglu } from "#libs/onnx/swiglu.js";
import type { Qwen2Layer } from "./qwen2-layer.js";

/** Sizes of a layer, and how it is stored. */
export interface LayerShape extends AttentionShape {
  readonly normEpsilon: number;
  readonly weights: WeightType;
}

/** Keys and values, `[B, T, H * D]`. */
export interface KeyValues {
  readonly key: Value;
  readonly value: Value;
}

/** What a layer sees beside its input. */
export interface LayerInputs {
  readonly rotation: Rotation;
  /** Keys and values of earlier positions; left out: none. */
  readonly past?: KeyValues;
  /** What queries may not see, `[B, 1, Q, T + S]`; left out: they see all. */
  readonly bias?: Value;
  /** Six vectors `[B, 1, hidden]`: shift, scale and gate of the attention, then of the feed-forward block; left out: none. */
  readonly modulation?: readonly Value[];
}

/** A layer's result `[B, S, hidden]`, and the keys and values of its own positions. */
export interface LayerOutput extends KeyValues {
  readonly hidden: Value;
}

/** A Qwen2 layer without causality, modulated where it denoises. @see Peebles & Xie, arXiv 2212.09748 (adaLN) */
export function ecarLayer(graph: Graph, x: Value, layer: Qwen2Layer, inputs: LayerInputs, shape: LayerShape): LayerOutput {
  const [shift1, scale1, gate1, shift2, scale2, gate2] = inputs.modulation ?? [];
  const norm = (value: Value, weight: Float32Array): Value => rmsNorm(graph, value, weight, shape.normEpsilon);
  const normal = graph.scope("attention_norm", () => modulated(graph, norm(x, layer.attentionNorm), shift1, scale1));
  const attended = graph.scope("attention", () => addAttention(graph, normal, layer, inputs, shape));
  const middle = graph.op("Add", [x, gated(graph, attended.hidden, gate1)]);
  const middleNormal = graph.scope("feed_forward_norm", () =>
    modulated(graph, norm(middle, layer.feedForwardNorm), shift2, scale2));
  const changed = graph.scope("feed_forward", () => swiglu(graph, middleNormal, layer.feedForward, shape.weights));
  return { ...attended, hidden: graph.op("Add", [middle, gated(graph, changed, gate2)]) };
}

/** `x * (1 + scale) + shift`; `x` itself without them. */
export function modulated(graph: Graph, x: Value, shift: Value | undefined, scale: Value | undefined): Value {
  if (shift === undefined || scale === undefined) return x;
  return graph.op("Add", [graph.op("Mul", [x, graph.op("Add", [scale, graph.float(1)])]), shift]);
}

function gated(graph: Graph, x: Value, gate: Value | undefined): Value {
  return gate === undefined ? x : graph.op("Mul", [x, gate]);
}

function addAttention(
  graph: Graph, x: Value, layer: Qwen2Layer, { rotation, past, bias }: LayerInputs, shape: LayerShape,
): LayerOutput {
  const [queries, keys] = [shape.heads * shape.headSize, shape.keyValueHeads * shape.headSize];
  const stacked = stackLinear([layer.query, layer.key, layer.value]);
  const all = graph.scope("query_key_value", () => linear(graph, x, stacked, shape.weights));
  const [turning, value] = graph.ops("Split", [all, graph.ints(queries + keys, keys)], 2, { axis: 2 });
  const [query, key] = graph.ops("Split", [rotate(graph, turning, rotation), graph.ints(queries, keys)], 2, { axis: 2 });
  const joined = (before: Value | undefined, own: Value): Value =>
    before === undefined ? own : graph.op("Concat", [before, own], { axis: 1 });
  const rows = { query, key: joined(past?.key, key), value: joined(past?.value, value) };
  const mixed = fullAttention(graph, rows, shape, bias);
  return { hidden: graph.scope("output", () => linear(graph, mixed, layer.output, shape.weights)), key, value };
}
