import { type FileHandle, open } from "node:fs/promises";
import { halvesFromFloats } from "#libs/tensor/half.js";
import { CONFIG } from "./random-model.js";

const ALIGNMENT = 32;
/** Weights in a block of Q8_0, and its bytes: a float16 scale, then a byte each. */
const [BLOCK, BLOCK_BYTES] = [32, 34];
/** Bytes written at once; a whole number of blocks. */
const CHUNK_BYTES = BLOCK_BYTES * 2 ** 18;

/** Numbers of the format's value and tensor types. */
const TYPES = { uint32: 4, int32: 5, float32: 6, text: 8, list: 9 } as const;
const TENSOR_TYPES = { F32: 0, Q8_0: 8 } as const;

interface Tensor {
  readonly name: string;
  readonly type: keyof typeof TENSOR_TYPES;
  /** Fastest axis first. */
  readonly dims: readonly number[];
}

/**
 * Write random Q8_0 weights of the published 0.5B shapes for llama.cpp, head tied, with a vocabulary of empty words.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
export async function writeRandomGguf(path: string): Promise<void> {
  const file = await open(path, "w");
  try {
    const tensors = tensorList();
    await file.write(header(tensors));
    const random = randomBlocks();
    for (const tensor of tensors) await writeTensor(file, tensor, random);
  } finally {
    await file.close();
  }
}

function tensorList(): readonly Tensor[] {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headSize, layers, vocabularySize } = CONFIG;
  const matrix = (name: string, rows: number, columns: number): Tensor => ({ name: `${name}.weight`, type: "Q8_0", dims: [columns, rows] });
  const vector = (name: string, size: number): Tensor => ({ name, type: "F32", dims: [size] });
  const layerTensors = (layer: number): readonly Tensor[] => {
    const name = `blk.${layer}`;
    const projections = [["attn_q", heads], ["attn_k", keyValueHeads], ["attn_v", keyValueHeads]] as const;
    return [
      vector(`${name}.attn_norm.weight`, hiddenSize), vector(`${name}.ffn_norm.weight`, hiddenSize),
      ...projections.flatMap(([part, count]) => [
        matrix(`${name}.${part}`, count * headSize, hiddenSize), vector(`${name}.${part}.bias`, count * headSize),
      ]),
      matrix(`${name}.attn_output`, hiddenSize, heads * headSize),
      matrix(`${name}.ffn_gate`, intermediateSize, hiddenSize), matrix(`${name}.ffn_up`, intermediateSize, hiddenSize),
      matrix(`${name}.ffn_down`, hiddenSize, intermediateSize),
    ];
  };
  return [
    matrix("token_embd", vocabularySize, hiddenSize), vector("output_norm.weight", hiddenSize),
    ...Array.from({ length: layers }, (_, layer) => layerTensors(layer)).flat(),
  ];
}

function header(tensors: readonly Tensor[]): Uint8Array {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, layers, vocabularySize, maxPositions, ropeTheta, normEpsilon } = CONFIG;
  const words = Array.from({ length: vocabularySize }, (_, index) => `<${index}>`);
  const values: readonly (readonly [name: string, value: Uint8Array])[] = [
    ["general.architecture", text("qwen2")], ["general.name", text("random 0.5B")],
    ["qwen2.context_length", number(maxPositions)], ["qwen2.embedding_length", number(hiddenSize)],
    ["qwen2.block_count", number(layers)], ["qwen2.feed_forward_length", number(intermediateSize)],
    ["qwen2.attention.head_count", number(heads)], ["qwen2.attention.head_count_kv", number(keyValueHeads)],
    ["qwen2.attention.layer_norm_rms_epsilon", float(normEpsilon)], ["qwen2.rope.freq_base", float(ropeTheta)],
    ["tokenizer.ggml.model", text("gpt2")], ["tokenizer.ggml.pre", text("qwen2")],
    ["tokenizer.ggml.tokens", list(TYPES.text, words.map(bareText))],
    ["tokenizer.ggml.token_type", list(TYPES.int32, words.map(() => uint32(1)))],
    ["tokenizer.ggml.merges", list(TYPES.text, [bareText("a b")])],
    ["tokenizer.ggml.eos_token_id", number(0)],
  ];
  let offset = 0;
  const infos = tensors.map((tensor) => {
    const info = Buffer.concat([
      bareText(tensor.name), uint32(tensor.dims.length), ...tensor.dims.map(uint64), uint32(TENSOR_TYPES[tensor.type]), uint64(offset),
    ]);
    offset += Math.ceil(bytesOf(tensor) / ALIGNMENT) * ALIGNMENT;
    return info;
  });
  const parts = [Buffer.from("GGUF"), uint32(3), uint64(tensors.length), uint64(values.length)];
  const bytes = Buffer.concat([...parts, ...values.flatMap(([name, value]) => [bareText(name), value]), ...infos]);
  return Buffer.concat([bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT)]);
}

function bytesOf({ type, dims }: Tensor): number {
  const count = dims.reduce((product, size) => product * size, 1);
  return type === "F32" ? 4 * count : (count / BLOCK) * BLOCK_BYTES;
}

/** Norms are ones, biases too; every matrix is made of the same random blocks. */
async function writeTensor(file: FileHandle, tensor: Tensor, random: Uint8Array): Promise<void> {
  const size = Math.ceil(bytesOf(tensor) / ALIGNMENT) * ALIGNMENT;
  if (tensor.type === "F32") return void (await file.write(new Uint8Array(new Float32Array(size / 4).fill(1).buffer)));
  for (let done = 0; done < size; done += random.length) await file.write(random, 0, Math.min(random.length, size - done));
}

function randomBlocks(): Uint8Array {
  const [scale] = halvesFromFloats(Float32Array.of(CONFIG.hiddenSize ** -0.5 / 73));
  const bytes = new Uint8Array(CHUNK_BYTES);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i, 0x9e3779b1) >>> 24;
  for (let block = 0; block < bytes.length; block += BLOCK_BYTES) bytes.set([scale & 255, scale >>> 8], block);
  return bytes;
}

function uint32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function uint64(value: number): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
}

function bareText(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function text(value: string): Uint8Array {
  return Buffer.concat([uint32(TYPES.text), bareText(value)]);
}

function number(value: number): Uint8Array {
  return Buffer.concat([uint32(TYPES.uint32), uint32(value)]);
}

function float(value: number): Uint8Array {
  return Buffer.concat([uint32(TYPES.float32), new Uint8Array(Float32Array.of(value).buffer)]);
}

function list(type: number, items: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([uint32(TYPES.list), uint32(type), uint64(items.length), ...items]);
}
