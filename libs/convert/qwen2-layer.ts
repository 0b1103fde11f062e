import type { LinearWeights } from "#libs/onnx/linear.js";
import type { SwigluWeights } from "#libs/onnx/swiglu.js";
import type { Qwen2Config } from "./qwen2-config.js";
import type { TensorSource } from "./tensor-source.js";

/** The weights of one transformer layer. */
export interface Qwen2Layer {
  /** `[hidden]`. */
  readonly attentionNorm: Float32Array;
  readonly query: LinearWeights;
  readonly key: LinearWeights;
  readonly value: LinearWeights;
  readonly output: LinearWeights;
  /** `[hidden]`. */
  readonly feedForwardNorm: Float32Array;
  readonly feedForward: SwigluWeights;
}

/** Sizes that a layer is made of. */
export type Qwen2LayerShape = Omit<Qwen2Config, "vocabularySize" | "maxPositions" | "tiedHead">;

/** One linear layer under PyTorch's names. @throws mismatch naming the array that is missing or misshapen. */
export async function readLinear(
  tensors: TensorSource, name: string, rows: number, columns: number, hasBias: boolean,
): Promise<LinearWeights> {
  const weight = await tensors.floats(`${name}.weight`, [rows, columns]);
  return hasBias ? { weight, rows, columns, bias: await tensors.floats(`${name}.bias`, [rows]) } : { weight, rows, columns };
}

/** One transformer layer under Hugging Face's names. @param prefix where it is, e.g. `model.layers.0`. */
export async function readQwen2Layer(
  tensors: TensorSource, prefix: string,
  { hiddenSize, intermediateSize, heads, keyValueHeads, headSize }: Qwen2LayerShape,
): Promise<Qwen2Layer> {
  const norm = (name: string): Promise<Float32Array> => tensors.floats(`${prefix}.${name}.weight`, [hiddenSize]);
  const projection = (name: string, count: number): Promise<LinearWeights> =>
    readLinear(tensors, `${prefix}.self_attn.${name}`, count * headSize, hiddenSize, true);
  return {
    attentionNorm: await norm("input_layernorm"),
    query: await projection("q_proj", heads),
    key: await projection("k_proj", keyValueHeads),
    value: await projection("v_proj", keyValueHeads),
    output: await readLinear(tensors, `${prefix}.self_attn.o_proj`, hiddenSize, heads * headSize, false),
    feedForwardNorm: await norm("post_attention_layernorm"),
    feedForward: {
      gate: await readLinear(tensors, `${prefix}.mlp.gate_proj`, intermediateSize, hiddenSize, false),
      up: await readLinear(tensors, `${prefix}.mlp.up_proj`, intermediateSize, hiddenSize, false),
      down: await readLinear(tensors, `${prefix}.mlp.down_proj`, hiddenSize, intermediateSize, false),
    },
  };
}
