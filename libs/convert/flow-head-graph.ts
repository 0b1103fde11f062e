import type { WeightType } from "#libs/bundle/manifest.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { linear, type LinearWeights } from "#libs/onnx/linear.js";
import { rmsNorm } from "#libs/onnx/rms-norm.js";
import { silu } from "#libs/onnx/swiglu.js";
import type { EcarCheckpoint, FlowHeadWeights } from "./ecar-checkpoint.js";
import type { EcarConfig, TimeFeatures } from "./ecar-config.js";
import { ecarLayer, modulated } from "./ecar-layer.js";
import { cellPlaces, planeRotation } from "./ecar-rotation.js";
import type { EcarGraphOptions } from "./stage-transformer-graph.js";

/** Shift, scale and gate, before the attention and before the feed-forward block. */
const VECTORS = 6;

/** The flow head graph of a bundle, as `FlowHeadSection` describes it. */
export async function buildFlowHead(checkpoint: EcarCheckpoint, options: EcarGraphOptions): Promise<Uint8Array> {
  const { flowHead, latent: { channels }, tokenMapChannels, time: features } = checkpoint.config;
  const graph = new Graph("flow_head", options.weightFile);
  const latent = graph.input("latent", "float32", ["B", channels, "h", "w"]);
  const tokenMap = graph.input("token_map", "float32", ["B", "N", tokenMapChannels]);
  const time = graph.input("time", "float32", ["B"]);
  const stage = graph.input("stage", "int64", ["B"]);
  const cells = graph.input("cells", "int64", ["B", "N"]);
  const own = await checkpoint.flowHead();
  const rotation = graph.scope("rotation", () => planeRotation(graph, cells, cellPlaces(checkpoint.config), flowHead));
  const condition = graph.scope("condition", () => addCondition(graph, time, stage, own, features));
  const activated = silu(graph, condition);
  const shared = graph.scope("modulation", () => linear(graph, activated, own.modulation, stored(options.weights)));
  const vectors = graph.op("Reshape", [shared, graph.ints(0, VECTORS, flowHead.hiddenSize)]);
  let hidden = graph.scope("embedding", () => addEmbedding(graph, { latent, tokenMap, cells }, own, checkpoint.config, options.weights));
  for (let index = 0; index < flowHead.layers; index++) {
    options.signal?.throwIfAborted();
    const layer = await checkpoint.flowLayer(index);
    hidden = graph.scope(`layer.${index}`, () => {
      const modulation = split(graph, vectors, layer.modulation, VECTORS);
      return ecarLayer(graph, hidden, layer, { rotation, modulation }, { ...flowHead, weights: options.weights }).hidden;
    });
  }
  const velocity = graph.scope("velocity", () => {
    const [shift, scale] = split(graph, graph.op("Unsqueeze", [condition, graph.ints(1)]), own.outputModulation, 2);
    const normal = modulated(graph, rmsNorm(graph, hidden, own.norm, flowHead.normEpsilon), shift, scale);
    return linear(graph, normal, own.velocity, stored(options.weights));
  });
  const planes = graph.op("Transpose", [velocity], { perm: [0, 2, 1] });
  graph.output("velocity", graph.op("Reshape", [planes, graph.op("Shape", [latent])]), "float32", ["B", channels, "h", "w"]);
  return graph.toBytes();
}

/** Small layers that all others hang on are not worth rounding further. */
function stored(weights: WeightType): "fp32" | "fp16" {
  return weights === "fp32" ? "fp32" : "fp16";
}

/** `vectors` `[B, count or 1, hidden]` plus a layer's own, one by one as `[B, 1, hidden]`. */
function split(graph: Graph, vectors: Value, own: Float32Array, count: number): readonly Value[] {
  const added = graph.op("Add", [vectors, graph.constant("modulation", own, [count, own.length / count])]);
  return graph.ops("Split", [added], count, { axis: 1, num_outputs: count });
}

/** What all modulation comes from: time and stage as one vector, `[B, hidden]`. */
function addCondition(
  graph: Graph, time: Value, stage: Value, own: FlowHeadWeights, { scale, base, frequencies }: TimeFeatures,
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

/** What a cell holds, what its token says, and where it is. */
function addEmbedding(
  graph: Graph, inputs: Readonly<Record<"latent" | "tokenMap" | "cells", Value>>, own: FlowHeadWeights,
  { latent: { channels }, flowHead: { hiddenSize } }: EcarConfig, weights: WeightType,
): Value {
  const planes = graph.op("Reshape", [inputs.latent, graph.ints(0, channels, -1)]);
  const rows = graph.op("Transpose", [planes], { perm: [0, 2, 1] });
  const fromLatent = graph.scope("latent", () => linear(graph, rows, own.latent, stored(weights)));
  const fromMap = graph.scope("token_map", () => linear(graph, inputs.tokenMap, own.tokenMap, stored(weights)));
  const table = graph.constant("positions", own.positions, [own.positions.length / hiddenSize, hiddenSize]);
  return graph.op("Add", [graph.op("Add", [fromLatent, fromMap]), graph.op("Gather", [table, inputs.cells], { axis: 0 })]);
}
