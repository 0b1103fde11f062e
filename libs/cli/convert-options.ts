import type { WeightType } from "#libs/bundle/manifest.js";
import type { ConvertOptions } from "#libs/convert/convert.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { parseFlags } from "./command.js";
import { compressionFlag, gridFlag, requiredFlag } from "./flags.js";

/** What `--help` prints. */
export const CONVERT_HELP = `Turn a SimpleAR or E-CAR checkpoint and a Cosmos decoder into a model bundle.

  npm run convert -- --lm DIR --decoder FILE --out DIR [options]

  --lm DIR               Hugging Face folder: config.json, tokenizer.json, model.safetensors or its shards and their index in
                         fp32, fp16 or bf16; generation_config.json and tessera.json, a recipe, if they are there
  --decoder FILE         decoder.jit of a Cosmos tokenizer: a discrete one, DV or DI, or with E-CAR a continuous one
  --encoder FILE         its encoder.jit, to turn images into tokens; may be left out
  --compression TxHxW    frames, rows and columns that become one token, such as 8x16x16 of DV8x16x16; needed only for files of
                         video tokenizers that keep convolutions which nothing uses
  --out DIR              the bundle; must not exist yet
  --weights TYPE         transformer weights: fp32 (default), fp16, int8 or int4
  --decoder-weights TYPE decoder weights: fp32 or fp16 (default: fp32 with fp32, else fp16)
  --name NAME            the model's name; default: what tessera.json says, else the folder's name
  --grid HxW             rows and columns of image tokens; default: what tessera.json says, else 64x64 as SimpleAR was trained
  --help                 this text

Files are read as data, one array at a time: memory stays within a few times the largest array. Progress goes to stderr. The
bundle appears when it is complete; an interrupted run leaves nothing. A graph with more than 64 MiB of weights keeps them in
FILE.data beside it. Without tessera.json, prompt, negative prompt, guidance and sampling are those of SimpleAR's authors.
`;

const OPTIONS = {
  lm: { type: "string" }, decoder: { type: "string" }, encoder: { type: "string" }, out: { type: "string" },
  weights: { type: "string", default: "fp32" },
  compression: { type: "string" }, "decoder-weights": { type: "string" }, name: { type: "string" }, grid: { type: "string" },
  help: { type: "boolean", default: false },
} as const;

/** Parse the command line. @returns undefined if help is asked for. @throws invalid-request naming the flag. */
export function parseConvertOptions(args: readonly string[]): ConvertOptions | undefined {
  const { values } = parseFlags({ args: [...args], options: OPTIONS, strict: true });
  if (values.help) return undefined;
  const { name, encoder } = values;
  const grid = gridFlag("--grid", values.grid);
  const compression = compressionFlag("--compression", values.compression);
  const decoderWeights = values["decoder-weights"];
  return {
    lmFolder: requiredFlag("--lm", values.lm),
    decoderFile: requiredFlag("--decoder", values.decoder),
    ...(encoder === undefined ? {} : { encoderFile: requiredFlag("--encoder", encoder) }),
    ...(compression === undefined ? {} : { compression }),
    outFolder: requiredFlag("--out", values.out),
    weights: oneOf<WeightType>("--weights", ["fp32", "fp16", "int8", "int4"], values.weights),
    ...(decoderWeights === undefined ? {} : { decoderWeights: oneOf("--decoder-weights", ["fp32", "fp16"], decoderWeights) }),
    ...(name === undefined ? {} : { name }),
    ...(grid === undefined ? {} : { grid }),
  };
}

function oneOf<T extends string>(flag: string, allowed: readonly T[], value: string): T {
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw invalidRequest(flag, allowed.join(" or "), value);
  return found;
}
