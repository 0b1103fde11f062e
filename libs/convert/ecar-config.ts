import { jumpAfter } from "#libs/flow/schedule.js";
import type { LatentSection, StageSection } from "#libs/bundle/stage-manifest.js";
import type { Fields } from "#libs/json/fields.js";
import { parseQwen2Config, type Qwen2Config } from "./qwen2-config.js";
import type { Qwen2LayerShape } from "./qwen2-layer.js";

/** What an E-CAR checkpoint's `config.json` says; `libs/training/ecar_model.py` tells what the networks compute. */
export interface EcarConfig {
  readonly latent: LatentSection;
  readonly stages: readonly StageSection[];
  readonly tokenMapChannels: number;
  readonly maxPromptTokens: number;
  readonly transformer: Qwen2Config;
  readonly flowHead: Qwen2LayerShape;
  readonly time: TimeFeatures;
}

/** How the flow head is told the time: cosines and sines of `scale * time * base ** (-i / frequencies)`. */
export interface TimeFeatures {
  readonly scale: number;
  readonly base: number;
  readonly frequencies: number;
}

/** Closed forms in double precision. */
const TOLERANCE = 1e-9;

/**
 * Read the `config.json` of an E-CAR checkpoint.
 * @throws mismatch naming the field for anything missing, unknown, or that serving would compute otherwise.
 */
export function parseEcarConfig(config: Fields): EcarConfig {
  config.oneOf("model_type", ["ecar"]);
  config.oneOf("solver", ["midpoint"]);
  const parsed: EcarConfig = {
    latent: finished(config.object("latent"), parseLatent),
    stages: config.objects("stages").map((stage, index, all) => finished(stage, (fields) => parseStage(fields, all[index - 1]))),
    tokenMapChannels: config.integer("token_map_channels", 1),
    maxPromptTokens: config.integer("max_prompt_tokens", 1),
    transformer: finished(config.object("transformer"), parseTransformer),
    flowHead: finished(config.object("flow_head"), parseFlowHead),
    time: finished(config.object("time"), parseTime),
  };
  const side = config.object("latent").integer("side", 1);
  const last = parsed.stages.at(-1)!;
  if (side !== last.height) throw config.object("latent").refuse("side", `the last stage's, ${last.height}`, side);
  config.finish();
  return parsed;
}

/** What the config of the baseline says: one network over the text and the finest stage's cells. */
export interface DitConfig extends Pick<EcarConfig, "latent" | "maxPromptTokens" | "transformer" | "time"> {
  /** Rows of the latent, and columns. */
  readonly side: number;
}

/** Read the `config.json` of a baseline. @throws as `parseEcarConfig`. */
export function parseDitConfig(config: Fields): DitConfig {
  config.oneOf("model_type", ["dit"]);
  const parsed = {
    latent: finished(config.object("latent"), parseLatent), side: config.object("latent").integer("side", 1),
    maxPromptTokens: config.integer("max_prompt_tokens", 1),
    transformer: finished(config.object("transformer"), parseTransformer), time: finished(config.object("time"), parseTime),
  };
  config.finish();
  return parsed;
}

/** Cells of each stage, coarsest first. */
export function cellCounts({ stages }: Pick<EcarConfig, "stages">): readonly number[] {
  return stages.map(({ height, width }) => height * width);
}

function finished<T>(fields: Fields, parse: (fields: Fields) => T): T {
  const value = parse(fields);
  fields.finish();
  return value;
}

function parseTime(time: Fields): TimeFeatures {
  return { scale: time.number("scale", 0), base: time.number("base", 1), frequencies: time.integer("frequencies", 1) };
}

/** Of the values `parse-stage-manifest.ts` judges the rest. */
function parseLatent(fields: Fields): LatentSection {
  fields.integer("side", 1);
  return { channels: fields.integer("channels", 1), mean: fields.numbers("mean"), scale: fields.numbers("scale") };
}

function parseStage(fields: Fields, before: Fields | undefined): StageSection {
  const side = fields.integer("side", 1);
  const jump = before === undefined ? { signal: 1, noise: 0 } : jumpAfter(before.number("end"));
  for (const [name, expected] of [["alpha", jump.signal], ["beta", jump.noise]] as const) {
    const value = fields.number(name);
    if (Math.abs(value - expected) > TOLERANCE) throw fields.refuse(name, `${expected}, as keeps the noise white`, value);
  }
  return {
    height: side, width: side,
    startNoise: fields.number("start"), endNoise: fields.number("end"),
    startTime: fields.number("time_start"), endTime: fields.number("time_end"),
    steps: fields.integer("solver_steps", 1), guidanceShare: fields.number("guidance_share"),
  };
}

function parseTransformer(fields: Fields): Qwen2Config {
  const config = parseQwen2Config(fields);
  if (config.headSize % 4 !== 0) throw fields.refuse("num_attention_heads", "heads of 4 n numbers", config.headSize);
  return config;
}

function parseFlowHead(fields: Fields): Qwen2LayerShape {
  const hiddenSize = fields.integer("hidden_size", 1);
  const heads = fields.integer("num_attention_heads", 1);
  const keyValueHeads = fields.integer("num_key_value_heads", 1, heads);
  const headSize = hiddenSize / heads;
  if (headSize % 4 !== 0) throw fields.refuse("num_attention_heads", `a divisor of ${hiddenSize} into heads of 4 n numbers`, heads);
  if (heads % keyValueHeads !== 0) throw fields.refuse("num_key_value_heads", `a divisor of ${heads}`, keyValueHeads);
  return {
    hiddenSize, heads, keyValueHeads, headSize,
    intermediateSize: fields.integer("intermediate_size", 1), layers: fields.integer("num_hidden_layers", 1),
    ropeTheta: fields.number("rope_theta", 1), normEpsilon: fields.number("rms_norm_eps", 0, 1),
  };
}
