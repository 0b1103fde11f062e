import { conv2d, halvingConv2d, type ConvWeights } from "#libs/onnx/conv2d.js";
import type { Graph, Value } from "#libs/onnx/graph.js";
import { groupNorm } from "#libs/onnx/group-norm.js";
import { planeAttention } from "#libs/onnx/plane-attention.js";
import { silu } from "#libs/onnx/swiglu.js";
import { upsampleNearest } from "#libs/onnx/upsample.js";
import type { Upsample } from "./cosmos-checkpoint.js";
import type { AttentionBlock, Block, Middle, NormWeights, ResidualBlock, StoredConv } from "./cosmos-layers.js";
import type { CosmosGraphOptions, DecoderWeightType } from "./decoder-graph.js";

const NORM_EPSILON = 1e-6;

/**
 * Adds the layers of a Cosmos network to a graph, each under a name of its own. Values are `[B, channels, h, w]`.
 * Weights are loaded layer by layer and are the graph's from then on.
 */
export class CosmosGraph {
  readonly graph: Graph;
  readonly #weights: DecoderWeightType;
  readonly #signal: AbortSignal | undefined;

  constructor(graph: Graph, { weights, signal }: CosmosGraphOptions) {
    this.graph = graph;
    this.#weights = weights;
    this.#signal = signal;
  }

  async conv(name: string, x: Value, conv: StoredConv): Promise<Value> {
    const weights = await this.#load(conv);
    return this.#conv(name, x, weights);
  }

  /** Half as high and wide. */
  async downsample(name: string, x: Value, conv: StoredConv): Promise<Value> {
    const weights = await this.#load(conv);
    return this.graph.scope(name, () => halvingConv2d(this.graph, x, weights, this.#weights));
  }

  /** Twice as high and wide. */
  async upsample(name: string, x: Value, { mix, conv }: Upsample): Promise<Value> {
    const mixed = mix === undefined ? x : await this.conv(`${name}/mix`, x, mix);
    const weights = await this.#load(conv);
    return this.graph.scope(name, () => conv2d(this.graph, upsampleNearest(this.graph, mixed), weights, this.#weights));
  }

  async residual(name: string, x: Value, block: ResidualBlock): Promise<Value> {
    const [conv1, conv2] = [await this.#load(block.conv1), await this.#load(block.conv2)];
    const shortcut = block.shortcut === undefined ? undefined : await this.#load(block.shortcut);
    return this.graph.scope(name, () => {
      const inner = this.#conv("conv1", silu(this.graph, this.#norm("norm1", x, block.norm1)), conv1);
      const outer = this.#conv("conv2", silu(this.graph, this.#norm("norm2", inner, block.norm2)), conv2);
      return this.graph.op("Add", [shortcut === undefined ? x : this.#conv("shortcut", x, shortcut), outer]);
    });
  }

  async attention(name: string, x: Value, block: AttentionBlock): Promise<Value> {
    const layers = [block.query, block.key, block.value, block.output];
    const [query, key, value, output] = await Promise.all(layers.map((conv) => this.#load(conv)));
    const mixed = this.graph.scope(name, () => {
      const normal = this.#norm("norm", x, block.norm);
      const attended = planeAttention(
        this.graph, this.#conv("query", normal, query), this.#conv("key", normal, key), this.#conv("value", normal, value),
      );
      return this.graph.op("Add", [x, this.#conv("output", attended, output)]);
    });
    if (block.time === undefined) return mixed;
    const { norm, conv } = block.time;
    const time = await this.#load(conv);
    return this.graph.scope(`${name}/time`, () =>
      this.graph.op("Add", [mixed, this.#conv("output", this.#norm("norm", mixed, norm), time)]));
  }

  async middle(x: Value, [first, attention, second]: Middle): Promise<Value> {
    let y = await this.residual("middle.block_1", x, first);
    if (attention !== undefined) y = await this.attention("middle.attention", y, attention);
    return this.residual("middle.block_2", y, second);
  }

  async blocks(level: string, x: Value, blocks: readonly Block[]): Promise<Value> {
    let y = x;
    for (const [number, { residual, attention }] of blocks.entries()) {
      y = await this.residual(`${level}/block.${number}`, y, residual);
      if (attention !== undefined) y = await this.attention(`${level}/attention.${number}`, y, attention);
    }
    return y;
  }

  /** What ends both networks: norm, swish, convolution. */
  async head(x: Value, norm: NormWeights, conv: StoredConv): Promise<Value> {
    return this.conv("conv_out", silu(this.graph, this.#norm("norm_out", x, norm)), conv);
  }

  #load(conv: StoredConv): Promise<ConvWeights> {
    this.#signal?.throwIfAborted();
    return conv.load();
  }

  #conv(name: string, x: Value, weights: ConvWeights): Value {
    return this.graph.scope(name, () => conv2d(this.graph, x, weights, this.#weights));
  }

  #norm(name: string, x: Value, { weight, bias, groups }: NormWeights): Value {
    return this.graph.scope(name, () => groupNorm(this.graph, x, weight, bias, groups, NORM_EPSILON));
  }
}
