import { join } from "node:path";
import { Fields } from "#libs/json/fields.js";
import type { LinearWeights } from "#libs/onnx/linear.js";
import { cellCounts, parseEcarConfig, type EcarConfig } from "./ecar-config.js";
import { readLinear, readQwen2Layer, type Qwen2Layer, type Qwen2LayerShape } from "./qwen2-layer.js";
import { readSafetensorsFolder } from "./safetensors.js";
import type { ReadObserver, TensorSource } from "./tensor-source.js";

/** A layer of the flow head: with six rows that are added to the modulation, `[6, hidden]`. */
export interface FlowLayer extends Qwen2Layer {
  readonly modulation: Float32Array;
}

/** What the stage transformer has beside its layers. */
export interface StageTransformerWeights {
  /** `[vocabulary, hidden]`. */
  readonly embedding: Float32Array;
  /** `[cells of all stages, hidden]`. */
  readonly positions: Float32Array;
  readonly latent: LinearWeights;
  /** `[hidden]`. */
  readonly norm: Float32Array;
  readonly tokenMap: LinearWeights;
}

/** What a network that tells velocities has beside its layers. */
export interface VelocityWeights {
  readonly latent: LinearWeights;
  /** `[cells of all stages, hidden]`. */
  readonly positions: Float32Array;
  readonly time: readonly [LinearWeights, LinearWeights];
  /** `[stages, hidden]`. */
  readonly stages: Float32Array;
  readonly modulation: LinearWeights;
  /** `[hidden]`. */
  readonly norm: Float32Array;
  /** Shift and scale before the velocity, `[2, hidden]`. */
  readonly outputModulation: Float32Array;
  readonly velocity: LinearWeights;
}

/** What the flow head has beside its layers. */
export interface FlowHeadWeights extends VelocityWeights {
  readonly tokenMap: LinearWeights;
}

/** Sizes of a network that tells velocities. */
export interface VelocityShape {
  readonly hiddenSize: number;
  readonly channels: number;
  /** Of all stages together. */
  readonly cells: number;
  readonly stages: number;
  readonly frequencies: number;
}

/** An E-CAR checkpoint; `libs/training/ecar_model.py` tells what its arrays are for. */
export class EcarCheckpoint {
  readonly config: EcarConfig;
  readonly #tensors: TensorSource;

  private constructor(config: EcarConfig, tensors: TensorSource) {
    this.config = config;
    this.#tensors = tensors;
  }

  /** @param folder holds `config.json` and safetensors. @throws mismatch if they are missing or malformed. */
  static async open(folder: string, onRead?: ReadObserver): Promise<EcarCheckpoint> {
    const config = parseEcarConfig(await Fields.fromFile(join(folder, "config.json")));
    return new EcarCheckpoint(config, await readSafetensorsFolder(folder, onRead));
  }

  /** Bytes of all arrays as they are stored. */
  get bytes(): number {
    return this.#tensors.bytes;
  }

  async stageTransformer(): Promise<StageTransformerWeights> {
    const { transformer: { vocabularySize, hiddenSize }, tokenMapChannels, latent } = this.config;
    return {
      embedding: await this.#tensors.floats("model.embed_tokens.weight", [vocabularySize, hiddenSize]),
      positions: await this.#tensors.floats("position_embedding.weight", [this.#cells, hiddenSize]),
      latent: await readLinear(this.#tensors, "latent_embedding", hiddenSize, latent.channels, false),
      norm: await this.#tensors.floats("model.norm.weight", [hiddenSize]),
      tokenMap: await readLinear(this.#tensors, "token_map", tokenMapChannels, hiddenSize, true),
    };
  }

  stageLayer(index: number): Promise<Qwen2Layer> {
    return readQwen2Layer(this.#tensors, `model.layers.${index}`, this.config.transformer);
  }

  async flowHead(): Promise<FlowHeadWeights> {
    const { flowHead: { hiddenSize }, tokenMapChannels, latent: { channels }, stages, time: { frequencies } } = this.config;
    const shape = { hiddenSize, channels, cells: this.#cells, stages: stages.length, frequencies };
    return {
      ...await readVelocity(this.#tensors, "flow_head.", shape),
      tokenMap: await readLinear(this.#tensors, "flow_head.token_map_embedding", hiddenSize, tokenMapChannels, true),
    };
  }

  flowLayer(index: number): Promise<FlowLayer> {
    return readFlowLayer(this.#tensors, `flow_head.layers.${index}`, this.config.flowHead);
  }

  /** Call when all is read. @throws mismatch naming arrays that these networks have no use for. */
  finish(): void {
    this.#tensors.finish();
  }

  get #cells(): number {
    return cellCounts(this.config).reduce((sum, count) => sum + count, 0);
  }
}

/** @param prefix of the arrays' names. */
export async function readVelocity(
  tensors: TensorSource, prefix: string, { hiddenSize, channels, cells, stages, frequencies }: VelocityShape,
): Promise<VelocityWeights> {
  const layer = (name: string, rows: number, columns: number, hasBias = true): Promise<LinearWeights> =>
    readLinear(tensors, prefix + name, rows, columns, hasBias);
  const floats = (name: string, ...shape: number[]): Promise<Float32Array> => tensors.floats(prefix + name, shape);
  return {
    latent: await layer("latent_embedding", hiddenSize, channels, false),
    positions: await floats("position_embedding.weight", cells, hiddenSize),
    time: [await layer("linear_1", hiddenSize, 2 * frequencies), await layer("linear_2", hiddenSize, hiddenSize)],
    stages: await floats("stage_embedding.weight", stages, hiddenSize),
    modulation: await layer("modulation", 6 * hiddenSize, hiddenSize),
    norm: await floats("norm.weight", hiddenSize),
    outputModulation: await floats("output_modulation", 2, hiddenSize),
    velocity: await layer("velocity", channels, hiddenSize),
  };
}

/** @param prefix where the layer is, e.g. `flow_head.layers.0`. */
export async function readFlowLayer(tensors: TensorSource, prefix: string, shape: Qwen2LayerShape): Promise<FlowLayer> {
  return {
    ...await readQwen2Layer(tensors, prefix, shape),
    modulation: await tensors.floats(`${prefix}.modulation`, [6, shape.hiddenSize]),
  };
}
