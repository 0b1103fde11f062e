import { join } from "node:path";
import { Fields } from "#libs/json/fields.js";
import { readFlowLayer, readVelocity, type FlowLayer, type VelocityWeights } from "./ecar-checkpoint.js";
import { parseDitConfig, type DitConfig } from "./ecar-config.js";
import { readSafetensorsFolder } from "./safetensors.js";
import type { TensorSource } from "./tensor-source.js";

/** What the baseline has beside its layers. */
export interface DitWeights extends VelocityWeights {
  /** `[vocabulary, hidden]`. */
  readonly embedding: Float32Array;
}

/** The checkpoint of the baseline that E-CAR is measured against; `libs/training/ecar_model.py` tells what its arrays are for. */
export class DitCheckpoint {
  readonly config: DitConfig;
  readonly #tensors: TensorSource;

  private constructor(config: DitConfig, tensors: TensorSource) {
    this.config = config;
    this.#tensors = tensors;
  }

  /** @param folder holds `config.json` and safetensors. @throws mismatch if they are missing or malformed. */
  static async open(folder: string): Promise<DitCheckpoint> {
    const config = parseDitConfig(await Fields.fromFile(join(folder, "config.json")));
    return new DitCheckpoint(config, await readSafetensorsFolder(folder));
  }

  async weights(): Promise<DitWeights> {
    const { transformer: { hiddenSize, vocabularySize }, latent: { channels }, side, time: { frequencies } } = this.config;
    return {
      ...await readVelocity(this.#tensors, "", { hiddenSize, channels, cells: side ** 2, stages: 1, frequencies }),
      embedding: await this.#tensors.floats("embed_tokens.weight", [vocabularySize, hiddenSize]),
    };
  }

  layer(index: number): Promise<FlowLayer> {
    return readFlowLayer(this.#tensors, `layers.${index}`, this.config.transformer);
  }

  /** Call when all is read. @throws mismatch naming arrays that the network has no use for. */
  finish(): void {
    this.#tensors.finish();
  }
}
