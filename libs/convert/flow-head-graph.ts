import type { WeightType } from "#libs/bundle/manifest.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { linear } from "#libs/onnx/linear.js";
import type { EcarCheckpoint, FlowHeadWeights } from "./ecar-checkpoint.js";
import type { EcarConfig } from "./ecar-config.js";
import { ecarLayer } from "./ecar-layer.js";
import { cellPlaces, planeRotation } from "./ecar-rotation.js";
import type { EcarGraphOptions } from "./stage-transformer-graph.js";
import { conditioning, embeddedLatent, finelyStored, layerModulation, velocityOf } from "./velocity-graph.js";

/** The flow head graph of a bundle, as `FlowHeadSection` describes it. */
export async function buildFlowHead(checkpoint: EcarCheckpoint, options: EcarGraphOptions): Promise<Uint8Array> {
  const { flowHead, latent: { channels }, tokenMapChannels, time: features } = checkpoint.config;
  const { weights } = options;
  const graph = new Graph("flow_head", options.weightFile);
  const latent = graph.input("latent", "float32", ["B", channels, "h", "w"]);
  const tokenMap = graph.input("token_map", "float32", ["B", "N", tokenMapChannels]);
  const time = graph.input("time", "float32", ["B"]);
  const stage = graph.input("stage", "int64", ["B"]);
  const cells = graph.input("cells", "int64", ["B", "N"]);
  const own = await checkpoint.flowHead();
  const rotation = graph.scope("rotation", () => planeRotation(graph, cells, cellPlaces(checkpoint.config), flowHead));
  const condition = conditioning(graph, { time, stage }, own, features, weights);
  let hidden = graph.scope("embedding", () => addEmbedding(graph, { latent, tokenMap, cells }, own, checkpoint.config, weights));
  for (let index = 0; index < flowHead.layers; index++) {
    options.signal?.throwIfAborted();
    const layer = await checkpoint.flowLayer(index);
    hidden = graph.scope(`layer.${index}`, () => {
      const modulation = layerModulation(graph, condition, layer.modulation);
      return ecarLayer(graph, hidden, layer, { rotation, modulation }, { ...flowHead, weights }).hidden;
    });
  }
  const velocity = velocityOf(graph, hidden, latent, condition, own, { ...flowHead, weights });
  graph.output("velocity", velocity, "float32", ["B", channels, "h", "w"]);
  return graph.toBytes();
}

/** What a cell holds, what its token says, and where it is. */
function addEmbedding(
  graph: Graph, inputs: Readonly<Record<"latent" | "tokenMap" | "cells", Value>>, own: FlowHeadWeights,
  { latent: { channels }, flowHead: { hiddenSize } }: EcarConfig, weights: WeightType,
): Value {
  const fromLatent = embeddedLatent(graph, inputs.latent, channels, own.latent, weights);
  const fromMap = graph.scope("token_map", () => linear(graph, inputs.tokenMap, own.tokenMap, finelyStored(weights)));
  const table = graph.constant("positions", own.positions, [own.positions.length / hiddenSize, hiddenSize]);
  return graph.op("Add", [graph.op("Add", [fromLatent, fromMap]), graph.op("Gather", [table, inputs.cells], { axis: 0 })]);
}
