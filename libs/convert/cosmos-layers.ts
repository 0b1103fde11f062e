import { mismatch } from "#libs/errors/errors.js";
import type { ConvWeights } from "#libs/onnx/conv2d.js";
import { fuse, sumTaps } from "./cosmos-collapse.js";
import type { TensorSource } from "./tensor-source.js";

/** A group norm: weights `[channels]` each. */
export interface NormWeights {
  readonly weight: Float32Array;
  readonly bias: Float32Array;
  readonly groups: number;
}

/** A plane convolution whose shape is known and whose weights are read when they are asked for, each time afresh. */
export interface StoredConv {
  readonly outputs: number;
  readonly inputs: number;
  readonly size: number;
  load(): Promise<ConvWeights>;
}

/** A residual block; the shortcut is there where the width changes. */
export interface ResidualBlock {
  readonly norm1: NormWeights;
  readonly conv1: StoredConv;
  readonly norm2: NormWeights;
  readonly conv2: StoredConv;
  readonly shortcut: StoredConv | undefined;
}

/** Attention over all pixels, and what attention along time comes to for a single image: `x + conv(norm(x))`. */
export interface AttentionBlock {
  readonly norm: NormWeights;
  readonly query: StoredConv;
  readonly key: StoredConv;
  readonly value: StoredConv;
  readonly output: StoredConv;
  readonly time: { readonly norm: NormWeights; readonly conv: StoredConv } | undefined;
}

/** A residual block and what may follow it. */
export interface Block {
  readonly residual: ResidualBlock;
  readonly attention: AttentionBlock | undefined;
}

/** What stands at the coarsest resolution. */
export type Middle = readonly [ResidualBlock, AttentionBlock | undefined, ResidualBlock];

/** Groups of every norm: images share them between channels, each frame of a video is one. */
const IMAGE_GROUPS = 32;
const VIDEO_GROUPS = 1;

/**
 * Reads the layers of a Cosmos encoder or decoder by the names of their modules. Layers of video come out as the plane
 * layers that they are for a single image. Shapes are checked as far as a layer can by itself.
 * @throws mismatch naming any array that is missing or misshapen.
 */
export class CosmosLayers {
  readonly isVideo: boolean;
  readonly #tensors: TensorSource;

  constructor(tensors: TensorSource, isVideo: boolean) {
    this.#tensors = tensors;
    this.isVideo = isVideo;
  }

  /** Whether a convolution or norm called `name` is there, whole or in part. */
  has(name: string): boolean {
    return this.#tensors.has(`${this.#inner(name)}.weight`) || this.#tensors.has(`${this.#inner(name)}.bias`);
  }

  /** One convolution, of 1 x 1 or n x n. */
  conv(name: string): StoredConv {
    const key = this.#inner(name);
    const shape = this.#tensors.shape(`${key}.weight`);
    const [outputs, inputs, time] = this.isVideo ? shape : [...shape.slice(0, 2), 1];
    const [height, size] = shape.slice(-2);
    const isSquare = shape.length === (this.isVideo ? 5 : 4) && height === size && size % 2 === 1;
    if (!isSquare) {
      const rule = this.isVideo ? "[outputs, inputs, time, n, n]" : "[outputs, inputs, n, n]";
      throw mismatch(`\`${key}.weight\` must have shape ${rule} with n odd, got [${shape.join(", ")}]`);
    }
    const weight = this.#tensors.claim(`${key}.weight`, shape);
    const bias = this.#tensors.claim(`${key}.bias`, [outputs]);
    const load = async (): Promise<ConvWeights> =>
      ({ weight: sumTaps(await weight(), time, size ** 2), bias: await bias(), outputs, inputs, size });
    return { outputs, inputs, size, load };
  }

  /** Take convolutions that nothing uses, as far as they are there, for read. @returns undefined, for what is not done with them. */
  leave(names: readonly string[]): undefined {
    for (const name of names) if (this.has(name)) this.conv(name);
  }

  /** A convolution of a plane, which video follows by one along time. */
  planeConv(name: string): StoredConv {
    return this.isVideo ? fused(this.conv(`${name}.0`), this.conv(`${name}.1`), `${name}.1`) : this.conv(name);
  }

  async norm(name: string): Promise<NormWeights> {
    const key = this.isVideo ? `${name}.norm` : name;
    const shape = [this.#tensors.shape(`${key}.weight`)[0]];
    const weight = await this.#tensors.floats(`${key}.weight`, shape);
    const bias = await this.#tensors.floats(`${key}.bias`, shape);
    return { weight, bias, groups: this.isVideo ? VIDEO_GROUPS : IMAGE_GROUPS };
  }

  async residual(name: string): Promise<ResidualBlock> {
    const shortcut = `${name}.nin_shortcut`;
    return {
      norm1: await this.norm(`${name}.norm1`),
      conv1: this.planeConv(`${name}.conv1`),
      norm2: await this.norm(`${name}.norm2`),
      conv2: this.planeConv(`${name}.conv2`),
      shortcut: this.has(shortcut) ? this.conv(shortcut) : undefined,
    };
  }

  async attention(name: string): Promise<AttentionBlock | undefined> {
    const plane = this.isVideo ? `${name}.0` : name;
    if (!this.has(`${plane}.q`)) return undefined;
    const [query, key, value, output] = ["q", "k", "v", "proj_out"].map((layer) => this.conv(`${plane}.${layer}`));
    const time = this.isVideo ? await this.#timeAttention(`${name}.1`) : undefined;
    return { norm: await this.norm(`${plane}.norm`), query, key, value, output, time };
  }

  /** The blocks of one level. */
  async blocks(level: string): Promise<readonly Block[]> {
    const first = (number: number): string => `${level}.block.${number}.conv1${this.isVideo ? ".0" : ""}`;
    const blocks: Block[] = [];
    for (let number = 0; this.has(first(number)); number++) {
      blocks.push({
        residual: await this.residual(`${level}.block.${number}`),
        attention: await this.attention(`${level}.attn.${number}`),
      });
    }
    return blocks;
  }

  async middle(name: string): Promise<Middle> {
    return [await this.residual(`${name}.block_1`), await this.attention(`${name}.attn_1`), await this.residual(`${name}.block_2`)];
  }

  /** A single frame has only itself to attend to, whatever its query and key are. */
  async #timeAttention(name: string): Promise<NonNullable<AttentionBlock["time"]>> {
    const norm = await this.norm(`${name}.norm`);
    const [value, , , output] = ["v", "q", "k", "proj_out"].map((layer) => {
      const conv = this.conv(`${name}.${layer}`);
      checkConv(`${name}.${layer}`, conv, norm.weight.length, norm.weight.length);
      return conv;
    });
    return { norm, conv: fused(value, output, `${name}.proj_out`) };
  }

  #inner(name: string): string {
    return this.isVideo ? `${name}.conv3d` : name;
  }
}

/** @throws mismatch unless a convolution has the given numbers of channels. */
export function checkConv(name: string, conv: StoredConv, inputs: number, outputs: number): void {
  if (conv.inputs !== inputs) throw mismatch(`\`${name}\` must take ${inputs} channels, got ${conv.inputs}`);
  if (conv.outputs !== outputs) throw mismatch(`\`${name}\` must give ${outputs} channels, got ${conv.outputs}`);
}

/** Two convolutions as one; `name` is the second's. */
export function fused(first: StoredConv, point: StoredConv, name: string): StoredConv {
  if (point.size !== 1 || point.inputs !== first.outputs) {
    const got = `${point.size} x ${point.size} with ${point.inputs}`;
    throw mismatch(`\`${name}\` must be 1 x 1 with ${first.outputs} inputs, got ${got}`);
  }
  return changed(first, async (weights) => fuse(weights, await point.load()), { outputs: point.outputs });
}

/** A convolution with other weights made of its own, and the sizes that these change. */
export function changed(
  conv: StoredConv, change: (weights: ConvWeights) => ConvWeights | Promise<ConvWeights>,
  sizes: { readonly outputs?: number; readonly inputs?: number } = {},
): StoredConv {
  return { ...conv, ...sizes, load: async () => change(await conv.load()) };
}
