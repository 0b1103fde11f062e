import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { dataTypeNumber, Graph, type Value } from "#libs/onnx/graph.js";
import { rmsNorm } from "#libs/onnx/rms-norm.js";
import { silu } from "#libs/onnx/swiglu.js";
import { CONFIG } from "./random-model.js";

const FLOAT = dataTypeNumber("float32");
/** The ONNX number of int32. */
const INT32 = 6;

/** What a layer's operators share. */
interface Shared {
  readonly lengths: Value;
  readonly total: Value;
  readonly cos: Value;
  readonly sin: Value;
}

/**
 * A random 0.5B model as transformers.js loads it: `config.json` and `onnx/model_quantized.onnx` with the inputs, operators
 * and 8-bit weights that ONNX exports of Qwen2 on the Hugging Face hub have: grouped-query attention with a growing cache,
 * one dynamic scale for each layer's input, the whole head.
 */
export async function writePublishedModel(folder: string): Promise<void> {
  const { vocabularySize, hiddenSize, intermediateSize, layers, heads, keyValueHeads, maxPositions } = CONFIG;
  await writeFile(join(folder, "config.json"), JSON.stringify({
    model_type: "qwen2", architectures: ["Qwen2ForCausalLM"], vocab_size: vocabularySize, hidden_size: hiddenSize,
    intermediate_size: intermediateSize, num_hidden_layers: layers, num_attention_heads: heads,
    num_key_value_heads: keyValueHeads, max_position_embeddings: maxPositions, tie_word_embeddings: true,
  }));
  await writeFile(join(folder, "onnx", "model_quantized.onnx"), publishedGraph());
}

function publishedGraph(): Uint8Array {
  const { vocabularySize, hiddenSize, layers, headSize, maxPositions, ropeTheta, normEpsilon } = CONFIG;
  const graph = new Graph("qwen2");
  const ids = graph.input("input_ids", "int64", ["B", "S"]);
  const mask = graph.input("attention_mask", "int64", ["B", "T"]);
  const angles = Float32Array.from({ length: (maxPositions * headSize) / 2 }, (_, index) =>
    Math.floor(index / (headSize / 2)) * ropeTheta ** (-(index % (headSize / 2)) / (headSize / 2)));
  const table = (name: string, wave: (angle: number) => number): Value =>
    graph.constant(name, angles.map(wave), [maxPositions, headSize / 2]);
  const toInt32 = (value: Value): Value => graph.op("Cast", [value], { to: INT32 });
  const shared: Shared = {
    lengths: toInt32(graph.op("Sub", [graph.op("ReduceSum", [mask, graph.ints(1)], { keepdims: 0 }), graph.ints(1)])),
    total: toInt32(graph.op("Squeeze", [graph.op("Shape", [mask], { start: 1 }), graph.ints(0)])),
    cos: table("cos", Math.cos), sin: table("sin", Math.sin),
  };
  const embedding = randomWeights(graph, vocabularySize, hiddenSize);
  const rows = graph.op("Sub", [graph.op("Cast", [graph.op("Gather", [embedding, ids])], { to: FLOAT }), graph.float(128)]);
  let hidden = graph.op("Mul", [rows, graph.float(hiddenSize ** -0.5 / 73)]);
  for (let layer = 0; layer < layers; layer++) hidden = graph.scope(`layer.${layer}`, () => addLayer(graph, hidden, layer, shared));
  const ones = new Float32Array(hiddenSize).fill(1);
  graph.output("logits", linear(graph, rmsNorm(graph, hidden, ones, normEpsilon), vocabularySize, hiddenSize), "float32", ["B", "S", vocabularySize]);
  return graph.toBytes();
}

function addLayer(graph: Graph, x: Value, layer: number, { lengths, total, cos, sin }: Shared): Value {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headSize, normEpsilon } = CONFIG;
  const ones = new Float32Array(hiddenSize).fill(1);
  const normal = rmsNorm(graph, x, ones, normEpsilon);
  const [query, key, value] = [heads, keyValueHeads, keyValueHeads].map((count) => linear(graph, normal, count * headSize, hiddenSize));
  const past = ["key", "value"].map((part) =>
    graph.input(`past_key_values.${layer}.${part}`, "float32", ["B", keyValueHeads, "P", headSize]));
  const [mixed, ...present] = graph.ops(
    "com.microsoft.GroupQueryAttention", [query, key, value, ...past, lengths, total, cos, sin], 3,
    { num_heads: heads, kv_num_heads: keyValueHeads, do_rotary: 1 },
  );
  for (const [index, part] of ["key", "value"].entries()) {
    graph.output(`present.${layer}.${part}`, present[index], "float32", ["B", keyValueHeads, "T", headSize]);
  }
  const middle = graph.op("Add", [x, linear(graph, mixed, hiddenSize, heads * headSize)]);
  const inner = rmsNorm(graph, middle, ones, normEpsilon);
  const [gate, up] = [0, 1].map(() => linear(graph, inner, intermediateSize, hiddenSize));
  return graph.op("Add", [middle, linear(graph, graph.op("Mul", [silu(graph, gate), up]), hiddenSize, intermediateSize)]);
}

/** As transformers.js has `quantize_dynamic` write it for q8: one scale for the whole input, one for the signed weights. */
function linear(graph: Graph, x: Value, rows: number, columns: number): Value {
  const [levels, scale, zero] = graph.ops("DynamicQuantizeLinear", [x], 3);
  const weight = randomWeights(graph, columns, rows);
  const sums = graph.op("MatMulInteger", [levels, weight, zero, graph.constant("zero_point", Int8Array.of(0), [])]);
  return graph.op("Mul", [graph.op("Cast", [sums], { to: FLOAT }), graph.op("Mul", [scale, graph.float(columns ** -0.5 / 73)])]);
}

function randomWeights(graph: Graph, rows: number, columns: number): Value {
  return graph.constant("weight", new Int8Array(rows * columns).map((_, i) => Math.imul(i, 0x9e3779b1) >> 24), [rows, columns]);
}
