import type { WeightType } from "#libs/bundle/manifest.js";
import { attention, attentionBias, type AttentionBias } from "#libs/onnx/attention.js";
import { dataTypeNumber, Graph, type Value } from "#libs/onnx/graph.js";
import { linear, stackLinear, type LinearWeights } from "#libs/onnx/linear.js";
import { rmsNorm } from "#libs/onnx/rms-norm.js";
import { rotate, rotation, type Rotation } from "#libs/onnx/rope.js";
import { swiglu } from "#libs/onnx/swiglu.js";
import type { WeightFile } from "#libs/onnx/weight-file.js";
import { halvesFromFloats } from "#libs/tensor/half.js";
import type { Qwen2Checkpoint } from "./qwen2-checkpoint.js";
import type { Qwen2Config } from "./qwen2-config.js";
import type { Qwen2Layer } from "./qwen2-layer.js";

/** Which part of the vocabulary are image tokens, and how weight matrices are stored. */
export interface TransformerOptions {
  /** Id of image token 0. */
  readonly tokenOffset: number;
  readonly codebookSize: number;
  readonly weights: WeightType;
  /** Where the constants of a large graph go; stays the caller's. */
  readonly weightFile?: WeightFile;
  readonly signal?: AbortSignal;
}

/** What all layers share. */
interface Inputs {
  readonly rotation: Rotation;
  readonly bias: AttentionBias;
}

/** A layer's result and its rows for the cache, `[B, H, S, D]`. */
interface LayerOutput {
  readonly hidden: Value;
  readonly newKey: Value;
  readonly newValue: Value;
}

/** The end of an axis, whatever its size. */
const TO_THE_END = Number.MAX_SAFE_INTEGER;

/**
 * The transformer graph of a bundle, as `TransformerSection` describes it; of the head only the image tokens' rows.
 * Norms, biases and sums are float32 in every weight type; the embedding is stored as fp16 unless weights are fp32.
 * @throws mismatch if the checkpoint holds more or less than the network needs.
 */
export async function buildTransformer(checkpoint: Qwen2Checkpoint, options: TransformerOptions): Promise<Uint8Array> {
  const { config } = checkpoint;
  const graph = new Graph("transformer", options.weightFile);
  const ids = graph.input("ids", "int64", ["B", "S"]);
  const positions = graph.input("positions", "int64", ["B", "S"]);
  const pastBias = graph.input("past_bias", "float32", ["B", 1, 1, "T"]);
  const windowBias = graph.input("window_bias", "float32", ["S", "S"]);
  const logitsFrom = graph.input("logits_from", "int64", [1]);
  const inputs: Inputs = {
    rotation: graph.scope("rotation", () => rotation(graph, positions, config)),
    bias: graph.scope("bias", () => attentionBias(graph, pastBias, windowBias, config)),
  };
  let hidden = await addEmbedding(graph, ids, checkpoint, options.weights);
  const outputs: LayerOutput[] = [];
  for (let index = 0; index < config.layers; index++) {
    options.signal?.throwIfAborted();
    const layer = await checkpoint.layer(index);
    outputs.push(graph.scope(`layer.${index}`, () => addLayer(graph, hidden, layer, index, config, inputs, options.weights)));
    hidden = outputs[index].hidden;
  }
  const finalNorm = await checkpoint.finalNorm();
  const head = await imageHead(checkpoint, options);
  checkpoint.finish();
  const kept = graph.op("Slice", [hidden, logitsFrom, graph.ints(TO_THE_END), graph.ints(1)]);
  const normal = graph.scope("norm", () => rmsNorm(graph, kept, finalNorm, config.normEpsilon));
  const logits = graph.scope("head", () => linear(graph, normal, head, options.weights));
  addOutputs(graph, logits, outputs, config, options);
  return graph.toBytes();
}

/** In a function of its own, so that the largest array of all is gone from memory when the layers come. */
async function addEmbedding(graph: Graph, ids: Value, checkpoint: Qwen2Checkpoint, weights: WeightType): Promise<Value> {
  const { vocabularySize, hiddenSize } = checkpoint.config;
  const dims = [vocabularySize, hiddenSize];
  const table = await checkpoint.embedding();
  return graph.scope("embedding", () => {
    if (weights === "fp32") return graph.op("Gather", [graph.constant("weight", table, dims), ids], { axis: 0 });
    // Rounded where it lies: a second table would be most of what a conversion takes of memory.
    const halves = halvesFromFloats(table, new Uint16Array(table.buffer, table.byteOffset, table.length));
    const rows = graph.op("Gather", [graph.constant("weight", halves, dims), ids], { axis: 0 });
    return graph.op("Cast", [rows], { to: dataTypeNumber("float32") });
  });
}

function addLayer(
  graph: Graph, x: Value, layer: Qwen2Layer, index: number, config: Qwen2Config, inputs: Inputs, weights: WeightType,
): LayerOutput {
  const normal = graph.scope("attention_norm", () => rmsNorm(graph, x, layer.attentionNorm, config.normEpsilon));
  const attended = graph.scope("attention", () => addAttention(graph, normal, layer, index, config, inputs, weights));
  const middle = graph.op("Add", [x, attended.hidden]);
  const middleNormal = graph.scope("feed_forward_norm", () => rmsNorm(graph, middle, layer.feedForwardNorm, config.normEpsilon));
  const changed = graph.scope("feed_forward", () => swiglu(graph, middleNormal, layer.feedForward, weights));
  return { ...attended, hidden: graph.op("Add", [middle, changed]) };
}

function addAttention(
  graph: Graph, x: Value, layer: Qwen2Layer, index: number, config: Qwen2Config, inputs: Inputs, weights: WeightType,
): LayerOutput {
  const { heads, keyValueHeads, headSize } = config;
  const past = {
    key: graph.input(`past_key.${index}`, "float32", ["B", keyValueHeads, "T", headSize]),
    value: graph.input(`past_value.${index}`, "float32", ["B", keyValueHeads, "T", headSize]),
  };
  const stacked = stackLinear([layer.query, layer.key, layer.value]);
  const all = graph.scope("query_key_value", () => linear(graph, x, stacked, weights));
  const turningSize = (heads + keyValueHeads) * headSize;
  const [turning, value] = graph.ops("Split", [all, graph.ints(turningSize, keyValueHeads * headSize)], 2, { axis: 2 });
  const turned = rotate(graph, turning, inputs.rotation);
  const [query, key] = graph.ops("Split", [turned, graph.ints(heads * headSize, keyValueHeads * headSize)], 2, { axis: 2 });
  const byHead = (rows: Value): Value =>
    graph.op("Transpose", [graph.op("Reshape", [rows, graph.ints(0, 0, keyValueHeads, headSize)])], { perm: [0, 2, 1, 3] });
  const [newKey, newValue] = [byHead(key), byHead(value)];
  const mixed = attention(graph, query, newKey, newValue, past, inputs.bias, config);
  const hidden = graph.scope("output", () => linear(graph, mixed, layer.output, weights));
  return { hidden, newKey, newValue };
}

/** The image tokens' rows of the head. */
async function imageHead(
  checkpoint: Qwen2Checkpoint, { tokenOffset, codebookSize }: TransformerOptions,
): Promise<LinearWeights> {
  const weight = await checkpoint.headRows(tokenOffset, tokenOffset + codebookSize);
  return { weight, rows: codebookSize, columns: checkpoint.config.hiddenSize };
}

function addOutputs(
  graph: Graph, logits: Value, layers: readonly LayerOutput[], config: Qwen2Config, options: TransformerOptions,
): void {
  const stack = (values: readonly Value[]): Value => {
    const shape = graph.op("Concat", [graph.ints(values.length), graph.op("Shape", [values[0]])], { axis: 0 });
    return graph.op("Reshape", [graph.op("Concat", values, { axis: 0 }), shape]);
  };
  const { layers: count, keyValueHeads, headSize } = config;
  graph.output("logits", logits, "float32", ["B", "kept", options.codebookSize]);
  const shape = [count, "B", keyValueHeads, "S", headSize];
  graph.output("new_key", stack(layers.map((layer) => layer.newKey)), "float32", shape);
  graph.output("new_value", stack(layers.map((layer) => layer.newValue)), "float32", shape);
}
