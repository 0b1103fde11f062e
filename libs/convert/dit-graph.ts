import { Graph, type Value } from "#libs/onnx/graph.js";
import { storedConstant } from "#libs/onnx/linear.js";
import type { DitCheckpoint } from "./dit-checkpoint.js";
import { ecarLayer, type LayerOutput } from "./ecar-layer.js";
import { cellPlaces, planeRotation, textPlaces } from "./ecar-rotation.js";
import { pastInputs, stacked, type EcarGraphOptions } from "./stage-transformer-graph.js";
import { conditioning, embeddedLatent, finelyStored, layerModulation, velocityOf } from "./velocity-graph.js";

/**
 * The baseline's pass over the text, run once an image. Inputs: `ids` int64 [B, P]; `places` int64 [B, P], 0 .. P - 1;
 * `bias` float32 [B, 1, 1, 1, P] (0 where text is, -1e9 where not). Outputs: `key` and `value` float32 [L, B, P, W].
 */
export async function buildDitText(checkpoint: DitCheckpoint, { weights }: EcarGraphOptions): Promise<Uint8Array> {
  const { transformer } = checkpoint.config;
  const { layers, vocabularySize, hiddenSize, keyValueHeads, headSize } = transformer;
  const graph = new Graph("dit_text");
  const ids = graph.input("ids", "int64", ["B", "P"]);
  const places = graph.input("places", "int64", ["B", "P"]);
  const bias = graph.input("bias", "float32", ["B", 1, 1, 1, "P"]);
  const rotation = graph.scope("rotation", () => planeRotation(graph, places, placesOf(checkpoint), transformer));
  const { embedding } = await checkpoint.weights();
  const table = storedConstant(graph, "embedding", embedding, [vocabularySize, hiddenSize], finelyStored(weights));
  let hidden = graph.op("Gather", [table, ids], { axis: 0 });
  const outputs: LayerOutput[] = [];
  for (let index = 0; index < layers; index++) {
    const layer = await checkpoint.layer(index);
    outputs.push(graph.scope(`layer.${index}`, () => ecarLayer(graph, hidden, layer, { rotation, bias }, { ...transformer, weights })));
    hidden = outputs[index].hidden;
  }
  const shape = [layers, "B", "P", keyValueHeads * headSize];
  graph.output("key", stacked(graph, outputs.map(({ key }) => key)), "float32", shape);
  graph.output("value", stacked(graph, outputs.map(({ value }) => value)), "float32", shape);
  return graph.toBytes();
}

/**
 * One evaluation of the baseline. Inputs: `latent` float32 [B, C, R, R]; `time` float32 [B], 1 at the clean latent; `places`
 * int64 [B, N], from the text's places on; `bias` float32 [B, 1, 1, 1, P + N]; `past_key` and `past_value`, the text's.
 * Output: `velocity` float32 [B, C, R, R].
 */
export async function buildDit(checkpoint: DitCheckpoint, { weights }: EcarGraphOptions): Promise<Uint8Array> {
  const { transformer, latent: { channels }, side, time: features } = checkpoint.config;
  const graph = new Graph("dit");
  const latent = graph.input("latent", "float32", ["B", channels, side, side]);
  const time = graph.input("time", "float32", ["B"]);
  const places = graph.input("places", "int64", ["B", "N"]);
  const bias = graph.input("bias", "float32", ["B", 1, 1, 1, "K"]);
  const past = pastInputs(graph, transformer);
  const rotation = graph.scope("rotation", () => planeRotation(graph, places, placesOf(checkpoint), transformer));
  const own = await checkpoint.weights();
  const condition = conditioning(graph, { time, stage: graph.ints(0) }, own, features, weights);
  const positions: Value = graph.constant("positions", own.positions, [side ** 2, transformer.hiddenSize]);
  let hidden = graph.op("Add", [graph.scope("embedding", () => embeddedLatent(graph, latent, channels, own.latent, weights)), positions]);
  for (let index = 0; index < transformer.layers; index++) {
    const layer = await checkpoint.layer(index);
    hidden = graph.scope(`layer.${index}`, () => {
      const inputs = { rotation, bias, past: past[index], modulation: layerModulation(graph, condition, layer.modulation) };
      return ecarLayer(graph, hidden, layer, inputs, { ...transformer, weights }).hidden;
    });
  }
  graph.output("velocity", velocityOf(graph, hidden, latent, condition, own, { ...transformer, weights }), "float32", ["B", channels, side, side]);
  return graph.toBytes();
}

function placesOf({ config: { maxPromptTokens, side } }: DitCheckpoint) {
  const shape = { maxPromptTokens, stages: [{ height: side, width: side }] };
  return [...textPlaces(shape), ...cellPlaces(shape)];
}
