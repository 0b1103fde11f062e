import type { WeightType } from "#libs/bundle/manifest.js";
import type { Graph, Value } from "#libs/onnx/graph.js";
import { linear, type LinearWeights } from "#libs/onnx/linear.js";
import { rmsNorm } from "#libs/onnx/rms-norm.js";
import { silu } from "#libs/onnx/swiglu.js";
import type { VelocityWeights } from "./ecar-checkpoint.js";
import type { TimeFeatures } from "./ecar-config.js";
import { modulated } from "./ecar-layer.js";

/** Shift, scale and gate, before the attention and before the feed-forward block. */
const VECTORS = 6;

/** Time and stage, as all layers of a network that denoises hear of them. */
export interface Conditioning {
  /** `[B, hidden]`. */
  readonly condition: Value;
  /** What each layer adds its own to, `[B, 6, hidden]`. */
  readonly vectors: Value;
}

/** @param time float32 `[B]`. @param stage int64 `[B]` or `[1]`. */
export function conditioning(
  graph: Graph, { time, stage }: Readonly<Record<"time" | "stage", Value>>, own: VelocityWeights, features: TimeFeatures, weights: WeightType,
): Conditioning {
  const condition = graph.scope("condition", () => addCondition(graph, time, stage, own, features));
  const activated = silu(graph, condition);
  const shared = graph.scope("modulation", () => linear(graph, activated, own.modulation, finelyStored(weights)));
  return { condition, vectors: graph.op("Reshape", [shared, graph.ints(0, VECTORS, own.norm.length)]) };
}

/** The six vectors of one layer, `[B, 1, hidden]` each. @param own what the layer adds, `[6, hidden]`. */
export function layerModulation(graph: Graph, { vectors }: Conditioning, own: Float32Array): readonly Value[] {
  return split(graph, vectors, own, VECTORS);
}

/** What cells hold: a latent `[B, C, h, w]` as rows `[B, N, hidden]`. */
export function embeddedLatent(graph: Graph, latent: Value, channels: number, own: LinearWeights, weights: WeightType): Value {
  const planes = graph.op("Reshape", [latent, graph.ints(0, channels, -1)]);
  const rows = graph.op("Transpose", [planes], { perm: [0, 2, 1] });
  return graph.scope("latent", () => linear(graph, rows, own, finelyStored(weights)));
}

/** The velocity that the last layer's rows `[B, N, hidden]` come to, in the shape of the latent. */
export function velocityOf(
  graph: Graph, hidden: Value, latent: Value, { condition }: Conditioning, own: VelocityWeights,
  { normEpsilon, weights }: { readonly normEpsilon: number; readonly weights: WeightType },
): Value {
  const velocity = graph.scope("velocity", () => {
    const [shift, scale] = split(graph, graph.op("Unsqueeze", [condition, graph.ints(1)]), own.outputModulation, 2);
    const normal = modulated(graph, rmsNorm(graph, hidden, own.norm, normEpsilon), shift, scale);
    return linear(graph, normal, own.velocity, finelyStored(weights));
  });
  const planes = graph.op("Transpose", [velocity], { perm: [0, 2, 1] });
  return graph.op("Reshape", [planes, graph.op("Shape", [latent])]);
}

/** Small layers that all others hang on are not worth rounding further. */
export function finelyStored(weights: WeightType): "fp32" | "fp16" {
  return weights === "fp32" ? "fp32" : "fp16";
}

/** `vectors` `[B, count or 1, hidden]` plus a layer's own, one by one as `[B, 1, hidden]`. */
function split(graph: Graph, vectors: Value, own: Float32Array, count: number): readonly Value[] {
  const added = graph.op("Add", [vectors, graph.constant("modulation", own, [count, own.length / count])]);
  return graph.ops("Split", [added], count, { axis: 1, num_outputs: count });
}

/** What all modulation comes from: time and stage as one vector, `[B, hidden]`. */
function addCondition(
  graph: Graph, time: Value, stage: Value, own: VelocityWeights, { scale, base, frequencies }: TimeFeatures,
): Value {
  const rates = Float32Array.from({ length: frequencies }, (_, index) => base ** (-index / frequencies));
  const scaled = graph.op("Mul", [graph.op("Unsqueeze", [time, graph.ints(1)]), graph.float(scale)]);
  const angles = graph.op("Mul", [scaled, graph.constant("rates", rates, [frequencies])]);
  const waves = graph.op("Concat", [graph.op("Cos", [angles]), graph.op("Sin", [angles])], { axis: 1 });
  const layer = (name: string, x: Value, weights: LinearWeights): Value =>
    graph.scope(name, () => linear(graph, x, weights, "fp32"));
  const timed = layer("linear_2", silu(graph, layer("linear_1", waves, own.time[0])), own.time[1]);
  const hiddenSize = own.norm.length;
  const table = graph.constant("stages", own.stages, [own.stages.length / hiddenSize, hiddenSize]);
  return graph.op("Add", [timed, graph.op("Gather", [table, stage], { axis: 0 })]);
}
