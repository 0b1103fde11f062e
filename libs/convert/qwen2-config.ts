import type { Fields } from "#libs/json/fields.js";

/** What a Qwen2 checkpoint's `config.json` says of its network. */
export interface Qwen2Config {
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  readonly maxPositions: number;
  readonly ropeTheta: number;
  readonly normEpsilon: number;
  /** Whether the head is the embedding. */
  readonly tiedHead: boolean;
}

/**
 * Read a Hugging Face Qwen2 `config.json`, of transformers 4 or 5. Defaults of the library are not filled in: what shapes
 * the network must be written down.
 * @throws mismatch naming the field for anything missing, or that this network would compute otherwise.
 */
export function parseQwen2Config(config: Fields): Qwen2Config {
  config.oneOf("model_type", ["qwen2"]);
  config.oneOf("hidden_act", ["silu"]);
  if (config.has("use_sliding_window")) config.oneOf("use_sliding_window", [false]);
  const hiddenSize = config.integer("hidden_size", 1);
  const heads = config.integer("num_attention_heads", 1);
  const keyValueHeads = config.integer("num_key_value_heads", 1, heads);
  if (heads % keyValueHeads !== 0) throw config.refuse("num_key_value_heads", `a divisor of ${heads}`, keyValueHeads);
  if (hiddenSize % heads !== 0) throw config.refuse("num_attention_heads", `a divisor of ${hiddenSize}`, heads);
  const headSize = config.has("head_dim") ? config.integer("head_dim", 2) : hiddenSize / heads;
  if (headSize % 2 !== 0) throw config.refuse("head_dim", "even", headSize);
  return {
    vocabularySize: config.integer("vocab_size", 2),
    hiddenSize,
    intermediateSize: config.integer("intermediate_size", 1),
    layers: config.integer("num_hidden_layers", 1),
    heads,
    keyValueHeads,
    headSize,
    maxPositions: config.integer("max_position_embeddings", 1),
    ropeTheta: ropeTheta(config),
    normEpsilon: config.number("rms_norm_eps", 0, 1),
    tiedHead: config.boolean("tie_word_embeddings"),
  };
}

/** transformers 4 writes `rope_theta` and `rope_scaling`, 5 writes both into `rope_parameters`. */
function ropeTheta(config: Fields): number {
  if (!config.has("rope_parameters")) {
    if (config.has("rope_scaling")) config.oneOf("rope_scaling", [null]);
    return config.number("rope_theta", 1);
  }
  const parameters = config.object("rope_parameters");
  parameters.oneOf("rope_type", ["default"]);
  return parameters.number("rope_theta", 1);
}
