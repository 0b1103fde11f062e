import { join } from "node:path";
import { Fields } from "#libs/json/fields.js";
import { parseQwen2Config, type Qwen2Config } from "./qwen2-config.js";
import { readQwen2Layer, type Qwen2Layer } from "./qwen2-layer.js";
import { readSafetensorsFolder } from "./safetensors.js";
import type { ReadObserver, TensorSource } from "./tensor-source.js";

const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";

/** A Hugging Face Qwen2 checkpoint. Arrays are read when asked for, so that a large one never lies in memory whole. */
export class Qwen2Checkpoint {
  readonly config: Qwen2Config;
  readonly #tensors: TensorSource;

  private constructor(config: Qwen2Config, tensors: TensorSource) {
    this.config = config;
    this.#tensors = tensors;
  }

  /** @param folder holds `config.json` and safetensors. @throws mismatch if they are missing or malformed. */
  static async open(folder: string, onRead?: ReadObserver): Promise<Qwen2Checkpoint> {
    const config = parseQwen2Config(await Fields.fromFile(join(folder, "config.json")));
    return new Qwen2Checkpoint(config, await readSafetensorsFolder(folder, onRead));
  }

  /** The same from arrays that lie elsewhere. */
  static of(config: Qwen2Config, tensors: TensorSource): Qwen2Checkpoint {
    return new Qwen2Checkpoint(config, tensors);
  }

  /** Bytes of all arrays as they are stored. */
  get bytes(): number {
    return this.#tensors.bytes;
  }

  /** `[vocabulary, hidden]`. */
  embedding(): Promise<Float32Array> {
    return this.#tensors.floats(EMBEDDING, this.#tableShape);
  }

  /**
   * Rows `from .. to` of the head, end excluded, `[to - from, hidden]`. A tied head is the embedding even if the file
   * stores a copy of it, as some trainers do.
   */
  headRows(from: number, to: number): Promise<Float32Array> {
    const { tiedHead } = this.config;
    if (tiedHead && this.#tensors.has(HEAD)) this.#tensors.claim(HEAD, this.#tableShape);
    return this.#tensors.floats(tiedHead ? EMBEDDING : HEAD, this.#tableShape, [from, to]);
  }

  /** `[hidden]`. */
  finalNorm(): Promise<Float32Array> {
    return this.#tensors.floats("model.norm.weight", [this.config.hiddenSize]);
  }

  layer(index: number): Promise<Qwen2Layer> {
    return readQwen2Layer(this.#tensors, `model.layers.${index}`, this.config);
  }

  /** Call when all is read. @throws mismatch naming arrays that this network has no use for. */
  finish(): void {
    this.#tensors.finish();
  }

  get #tableShape(): readonly number[] {
    return [this.config.vocabularySize, this.config.hiddenSize];
  }
}
