import type { WeightType } from "#libs/bundle/manifest.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { linear, storedConstant } from "#libs/onnx/linear.js";
import { rmsNorm } from "#libs/onnx/rms-norm.js";
import type { WeightFile } from "#libs/onnx/weight-file.js";
import type { EcarCheckpoint, StageTransformerWeights } from "./ecar-checkpoint.js";
import type { EcarConfig } from "./ecar-config.js";
import { ecarLayer, type KeyValues, type LayerOutput } from "./ecar-layer.js";
import { cellPlaces, planeRotation, textPlaces } from "./ecar-rotation.js";

/** How the graphs of an E-CAR checkpoint are built. */
export interface EcarGraphOptions {
  readonly weights: WeightType;
  /** Where the constants of a large graph go; stays the caller's. */
  readonly weightFile?: WeightFile;
  readonly signal?: AbortSignal;
}

/** The end of an axis, whatever its size. */
const TO_THE_END = Number.MAX_SAFE_INTEGER;

/** The stage transformer graph of a bundle, as `StageTransformerSection` describes it. */
export async function buildStageTransformer(checkpoint: EcarCheckpoint, options: EcarGraphOptions): Promise<Uint8Array> {
  const { config } = checkpoint;
  const { transformer, latent, tokenMapChannels } = config;
  const graph = new Graph("stages", options.weightFile);
  const ids = graph.input("ids", "int64", ["B", "P"]);
  const context = graph.input("context", "float32", ["B", "N", latent.channels]);
  const places = graph.input("places", "int64", ["B", "S"]);
  const bias = graph.input("bias", "float32", ["B", 1, 1, "Q", "K"]);
  const past = pastInputs(graph, transformer);
  const rotation = graph.scope("rotation", () =>
    planeRotation(graph, places, [...textPlaces(config), ...cellPlaces(config)], transformer));
  const own = await checkpoint.stageTransformer();
  let hidden = addEmbedding(graph, { ids, context, places }, own, config, options.weights);
  const outputs: LayerOutput[] = [];
  for (let index = 0; index < transformer.layers; index++) {
    options.signal?.throwIfAborted();
    const layer = await checkpoint.stageLayer(index);
    const inputs = { rotation, bias, past: past[index] };
    const shape = { ...transformer, weights: options.weights };
    outputs.push(graph.scope(`layer.${index}`, () => ecarLayer(graph, hidden, layer, inputs, shape)));
    hidden = outputs[index].hidden;
  }
  const textCount = graph.op("Shape", [ids], { start: 1 });
  const cells = graph.op("Slice", [hidden, textCount, graph.ints(TO_THE_END), graph.ints(1)]);
  const normal = graph.scope("final_norm", () => rmsNorm(graph, cells, own.norm, transformer.normEpsilon));
  const map = graph.scope("token_map", () => linear(graph, normal, own.tokenMap, options.weights));
  graph.output("token_map", map, "float32", ["B", "N", tokenMapChannels]);
  const width = transformer.keyValueHeads * transformer.headSize;
  graph.output("new_key", stacked(graph, outputs.map(({ key }) => key)), "float32", [transformer.layers, "B", "S", width]);
  graph.output("new_value", stacked(graph, outputs.map(({ value }) => value)), "float32", [transformer.layers, "B", "S", width]);
  return graph.toBytes();
}

/** What layers give, `[B, S, W]` each, as one `[L, B, S, W]`. */
export function stacked(graph: Graph, rows: readonly Value[]): Value {
  return graph.op("Concat", rows.map((each) => graph.op("Unsqueeze", [each, graph.ints(0)])), { axis: 0 });
}

/** The inputs `past_key` and `past_value`, float32 `[L, B, T, W]`, layer by layer. */
export function pastInputs(
  graph: Graph, { layers, keyValueHeads, headSize }: Pick<EcarConfig["transformer"], "layers" | "keyValueHeads" | "headSize">,
): readonly KeyValues[] {
  const byLayer = (name: string): readonly Value[] => {
    const all = graph.input(name, "float32", [layers, "B", "T", keyValueHeads * headSize]);
    return graph.ops("Split", [all], layers, { axis: 0, num_outputs: layers }).map((each) => graph.op("Squeeze", [each, graph.ints(0)]));
  };
  const [keys, values] = [byLayer("past_key"), byLayer("past_value")];
  return keys.map((key, layer) => ({ key, value: values[layer] }));
}

/** Text tokens by their ids, cells by what the stage before holds there, both with what is learned of their places. */
function addEmbedding(
  graph: Graph, inputs: Readonly<Record<"ids" | "context" | "places", Value>>, own: StageTransformerWeights,
  { transformer: { vocabularySize, hiddenSize }, maxPromptTokens }: EcarConfig, weights: WeightType,
): Value {
  const stored = weights === "fp32" ? "fp32" : "fp16";
  return graph.scope("embedding", () => {
    const table = storedConstant(graph, "weight", own.embedding, [vocabularySize, hiddenSize], stored);
    const text = graph.op("Gather", [table, inputs.ids], { axis: 0 });
    const cells = graph.scope("latent", () => linear(graph, inputs.context, own.latent, stored));
    // Text tokens have no place to learn.
    const learned = new Float32Array(maxPromptTokens * hiddenSize + own.positions.length);
    learned.set(own.positions, maxPromptTokens * hiddenSize);
    const positions = storedConstant(graph, "positions", learned, [learned.length / hiddenSize, hiddenSize], stored);
    return graph.op("Add", [
      graph.op("Concat", [text, cells], { axis: 1 }), graph.op("Gather", [positions, inputs.places], { axis: 0 }),
    ]);
  });
}
