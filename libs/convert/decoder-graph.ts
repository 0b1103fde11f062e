import { conv2d, type ConvWeights } from "#libs/onnx/conv2d.js";
import { fsqCodes } from "#libs/onnx/fsq-codes.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { groupNorm } from "#libs/onnx/group-norm.js";
import { inverseHaar } from "#libs/onnx/haar.js";
import { planeAttention } from "#libs/onnx/plane-attention.js";
import { silu } from "#libs/onnx/swiglu.js";
import { upsampleNearest } from "#libs/onnx/upsample.js";
import type { WeightFile } from "#libs/onnx/weight-file.js";
import type { AttentionBlock, CosmosDecoder, NormWeights, ResidualBlock, UpLevel } from "./cosmos-checkpoint.js";
import { NORM_GROUPS, pixelsPerToken } from "./cosmos-structure.js";

/** How a decoder's convolutions may be stored. */
export type DecoderWeightType = "fp32" | "fp16";

const NORM_EPSILON = 1e-6;

/**
 * The decoder graph of a bundle, as `DecoderSection` describes it; any h and w.
 * @param weightFile where the constants of a large graph go; stays the caller's.
 */
export function buildDecoder(decoder: CosmosDecoder, weights: DecoderWeightType, weightFile?: WeightFile): Uint8Array {
  const graph = new Graph("decoder", weightFile);
  const layers = new Layers(graph, weights);
  const tokens = graph.input("tokens", "int64", ["B", "h", "w"]);
  const codes = graph.scope("codes", () => fsqCodes(graph, tokens, decoder.levels));
  let x = layers.conv("post_quant_conv", codes, decoder.postQuantConv);
  x = layers.conv("conv_in", x, decoder.convIn);
  const [first, attention, second] = decoder.middle;
  x = layers.residual("middle.block_1", x, first);
  if (attention !== undefined) x = layers.attention("middle.attention", x, attention);
  x = layers.residual("middle.block_2", x, second);
  decoder.up.forEach((level, index) => {
    x = graph.scope(`up.${decoder.up.length - 1 - index}`, () => layers.upLevel(x, level));
  });
  x = layers.conv("conv_out", silu(graph, layers.norm("norm_out", x, decoder.normOut)), decoder.convOut);
  for (let level = 0; level < decoder.haarLevels; level++) x = graph.scope(`haar.${level}`, () => inverseHaar(graph, x));
  const scale = pixelsPerToken(decoder);
  graph.output("pixels", x, "float32", ["B", 3, `${scale} h`, `${scale} w`]);
  return graph.toBytes();
}

/** The decoder's layers, each under a name of its own. Values are `[B, channels, h, w]`. */
class Layers {
  readonly #graph: Graph;
  readonly #weights: DecoderWeightType;

  constructor(graph: Graph, weights: DecoderWeightType) {
    this.#graph = graph;
    this.#weights = weights;
  }

  conv(name: string, x: Value, conv: ConvWeights): Value {
    return this.#graph.scope(name, () => conv2d(this.#graph, x, conv, this.#weights));
  }

  norm(name: string, x: Value, { weight, bias }: NormWeights): Value {
    return this.#graph.scope(name, () => groupNorm(this.#graph, x, weight, bias, NORM_GROUPS, NORM_EPSILON));
  }

  residual(name: string, x: Value, block: ResidualBlock): Value {
    return this.#graph.scope(name, () => {
      const inner = this.conv("conv1", silu(this.#graph, this.norm("norm1", x, block.norm1)), block.conv1);
      const outer = this.conv("conv2", silu(this.#graph, this.norm("norm2", inner, block.norm2)), block.conv2);
      const beside = block.shortcut === undefined ? x : this.conv("shortcut", x, block.shortcut);
      return this.#graph.op("Add", [beside, outer]);
    });
  }

  attention(name: string, x: Value, block: AttentionBlock): Value {
    return this.#graph.scope(name, () => {
      const normal = this.norm("norm", x, block.norm);
      const query = this.conv("query", normal, block.query);
      const key = this.conv("key", normal, block.key);
      const value = this.conv("value", normal, block.value);
      const mixed = planeAttention(this.#graph, query, key, value, block.query.outputs);
      return this.#graph.op("Add", [x, this.conv("output", mixed, block.output)]);
    });
  }

  upLevel(x: Value, { blocks, upsample }: UpLevel): Value {
    let y = x;
    blocks.forEach((block, number) => {
      y = this.residual(`block.${number}`, y, block.residual);
      if (block.attention !== undefined) y = this.attention(`attention.${number}`, y, block.attention);
    });
    return upsample === undefined ? y : this.conv("upsample", upsampleNearest(this.#graph, y), upsample);
  }
}
