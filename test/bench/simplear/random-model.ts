import { link, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import type { WeightType } from "#libs/bundle/manifest.js";
import { writeGraph } from "#libs/convert/convert.js";
import { collectCosmosDecoder } from "#libs/convert/cosmos-checkpoint.js";
import { buildDecoder } from "#libs/convert/decoder-graph.js";
import { Qwen2Checkpoint } from "#libs/convert/qwen2-checkpoint.js";
import type { Qwen2Config } from "#libs/convert/qwen2-config.js";
import { TensorSource } from "#libs/convert/tensor-source.js";
import { buildTransformer } from "#libs/convert/transformer-graph.js";
import { RandomTensors } from "./random-tensors.js";

/** Text tokens of the published models; the image tokens' ids follow. */
export const TEXT_TOKENS = 151_672;
/** Levels of the published image tokenizer: 64,000 image tokens. */
const LEVELS = [8, 8, 8, 5, 5, 5];
const CODEBOOK = 64_000;
const DECODER_FILE = "decoder.onnx";

/** The 0.5B transformer as it was published. */
export const CONFIG: Qwen2Config = {
  vocabularySize: TEXT_TOKENS + CODEBOOK, hiddenSize: 896, intermediateSize: 4864, layers: 24, heads: 14, keyValueHeads: 2,
  headSize: 64, maxPositions: 32_768, ropeTheta: 1e6, normEpsilon: 1e-6, tiedHead: true,
};

/** Bundles of random weights with the published shapes, 0.5B and DV8x16x16. They have no tokenizer, so nothing serves them. */
export class RandomBundles {
  readonly #folder: string;
  readonly #bundles = new Map<WeightType, TokenBundle>();

  /** @param folder where they are written; the caller clears it. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The one of a weight type, made when it is first asked for. All have the same decoder. */
  async of(weights: WeightType): Promise<TokenBundle> {
    const made = this.#bundles.get(weights);
    if (made !== undefined) return made;
    const bundle = await writeRandomBundle(join(this.#folder, weights), weights, [...this.#bundles.values()][0]);
    this.#bundles.set(weights, bundle);
    return bundle;
  }
}

function writeRandomBundle(folder: string, weights: WeightType, other: TokenBundle | undefined): Promise<TokenBundle> {
  return writeBundle(folder, async (draft) => {
    await writeFile(join(draft, "tokenizer.json"), "{}\n");
    if (other === undefined) await writeRandomDecoder(draft);
    else for (const file of [DECODER_FILE, `${DECODER_FILE}.data`]) await link(other.path(file), join(draft, file));
    const checkpoint = Qwen2Checkpoint.of(CONFIG, new TensorSource("random transformer", randomTransformer()));
    await writeGraph(join(draft, "transformer.onnx"), (weightFile) =>
      buildTransformer(checkpoint, { tokenOffset: TEXT_TOKENS, codebookSize: CODEBOOK, weights, weightFile }));
    return {
      formatVersion: 1, name: "random 0.5B", family: "simplear", licence: "CC0-1.0", provenance: { weights: "random" },
      text: {
        vocabularySize: TEXT_TOKENS, promptTemplate: "{prompt}", negativePromptTemplate: "{prompt}", unconditionalPrompt: "none",
        maxPromptTokens: 512, specialTokens: {},
      },
      image: {
        height: 1024, width: 1024, gridHeight: 64, gridWidth: 64, levels: LEVELS, codebookSize: CODEBOOK, tokenOffset: TEXT_TOKENS,
      },
      transformer: {
        file: "transformer.onnx", weights, layers: CONFIG.layers, hiddenSize: CONFIG.hiddenSize, heads: CONFIG.heads,
        keyValueHeads: CONFIG.keyValueHeads, headSize: CONFIG.headSize, maxPositions: CONFIG.maxPositions,
      },
      decoder: { file: DECODER_FILE, weights: "fp16" },
      defaults: { guidanceScale: 6, temperature: 1, topK: 0, topP: 1 }, metrics: {},
    };
  });
}

async function writeRandomDecoder(folder: string): Promise<void> {
  const decoder = await collectCosmosDecoder(new TensorSource("random decoder", randomDecoder()));
  await writeGraph(join(folder, DECODER_FILE), (weightFile) => buildDecoder(decoder, { weights: "fp16", weightFile }));
}

function randomTransformer(): RandomTensors["tensors"] {
  const { hiddenSize, intermediateSize, heads, keyValueHeads, headSize, layers, vocabularySize } = CONFIG;
  const random = new RandomTensors();
  const linear = (name: string, rows: number, columns: number): void => random.weights(`${name}.weight`, [rows, columns], columns);
  random.weights("model.embed_tokens.weight", [vocabularySize, hiddenSize], hiddenSize);
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}`;
    for (const norm of ["input_layernorm", "post_attention_layernorm"]) random.constant(`${name}.${norm}.weight`, hiddenSize, 1);
    for (const [projection, count] of [["q", heads], ["k", keyValueHeads], ["v", keyValueHeads]] as const) {
      linear(`${name}.self_attn.${projection}_proj`, count * headSize, hiddenSize);
      random.constant(`${name}.self_attn.${projection}_proj.bias`, count * headSize, 0.01);
    }
    linear(`${name}.self_attn.o_proj`, hiddenSize, heads * headSize);
    for (const projection of ["gate", "up"]) linear(`${name}.mlp.${projection}_proj`, intermediateSize, hiddenSize);
    linear(`${name}.mlp.down_proj`, hiddenSize, intermediateSize);
  }
  random.constant("model.norm.weight", hiddenSize, 1);
  return random.tensors;
}

/** The arrays of a DV8x16x16 `decoder.jit`, without those that it never uses. */
function randomDecoder(): RandomTensors["tensors"] {
  const random = new RandomTensors();
  const conv = (name: string, outputs: number, inputs: number, time = 1, size = 1): void => {
    random.weights(`${name}.conv3d.weight`, [outputs, inputs, time, size, size], inputs * time * size ** 2);
    random.constant(`${name}.conv3d.bias`, outputs, 0.01);
  };
  const pair = (name: string, outputs: number, inputs: number): void => {
    conv(`${name}.0`, outputs, inputs, 1, 3);
    conv(`${name}.1`, outputs, outputs, 3);
  };
  const norm = (name: string, size: number): void => {
    for (const [part, value] of [["weight", 1], ["bias", 0]] as const) random.constant(`${name}.norm.${part}`, size, value);
  };
  const residual = (name: string, inputs: number, outputs: number): void => {
    norm(`${name}.norm1`, inputs);
    pair(`${name}.conv1`, outputs, inputs);
    norm(`${name}.norm2`, outputs);
    pair(`${name}.conv2`, outputs, outputs);
    if (inputs !== outputs) conv(`${name}.nin_shortcut`, outputs, inputs);
  };
  random.integers("inv_quant.quantizer._levels", LEVELS);
  conv("post_quant_conv", 16, LEVELS.length);
  pair("decoder.conv_in", 512, 16);
  for (const block of [1, 2]) residual(`decoder.mid.block_${block}`, 512, 512);
  for (const part of [0, 1]) {
    norm(`decoder.mid.attn_1.${part}.norm`, 512);
    for (const layer of ["q", "k", "v", "proj_out"]) conv(`decoder.mid.attn_1.${part}.${layer}`, 512, 512);
  }
  for (const level of [2, 1, 0]) {
    const outputs = level === 0 ? 256 : 512;
    for (const block of [0, 1, 2]) residual(`decoder.up.${level}.block.${block}`, block === 0 ? 512 : outputs, outputs);
    if (level === 1) conv("decoder.up.1.upsample.conv1", 512, 512, 3);
    if (level > 0) {
      conv(`decoder.up.${level}.upsample.conv2`, 512, 512, 1, 3);
      conv(`decoder.up.${level}.upsample.conv3`, 512, 512);
    }
  }
  norm("decoder.norm_out", 256);
  pair("decoder.conv_out", 192, 256);
  return random.tensors;
}
