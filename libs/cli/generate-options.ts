import { extname } from "node:path";
import type { Env } from "#libs/config/env.js";
import { AppError, invalidRequest } from "#libs/errors/errors.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { parseFlags } from "./command.js";
import { choiceFlag, floatFlag, hostPortFlag, integerFlag, promptWord, seedFlag } from "./flags.js";

/** How pictures are written into files. */
export type FileFormat = "png" | "webp" | "jpeg";

/** How urgently images are wanted, the least first. */
export const PRIORITIES = ["low", "normal", "high"] as const;

/** What the command line of `generate` asks for. A field left out takes the bundle's default. */
export interface GenerateOptions {
  readonly prompt: string;
  readonly negativePrompt: string | undefined;
  readonly seed: bigint | undefined;
  readonly guidanceScale: number | undefined;
  readonly temperature: number | undefined;
  readonly topK: number | undefined;
  readonly topP: number | undefined;
  readonly repetitionPenalty: number | undefined;
  readonly imageCount: number;
  readonly priority: (typeof PRIORITIES)[number] | undefined;
  /** Positions in one pass of the model; undefined lets the generator choose. */
  readonly draftWindow: number | undefined;
  /** Undefined: the embedded bundle. */
  readonly bundleFolder: string | undefined;
  /** `host:port` of a decoder that runs already; undefined starts the services. */
  readonly target: string | undefined;
  /** The variables of `readSecurity` that flags set: whom to trust and what to show there. */
  readonly securityEnv: Env;
  /** Undefined: named after prompt and seed, in `out/`. */
  readonly outFile: string | undefined;
  readonly format: FileFormat;
  /** Where previews go; undefined asks for none. */
  readonly previewFolder: string | undefined;
  readonly isJson: boolean;
}

/** What `generate --help` prints. */
export const GENERATE_HELP = `npm run generate -- PROMPT [flags]

Makes a picture of PROMPT. Starts the services for it, or uses running ones.

  --seed N           fixes the picture: same seed and settings, same picture; 0 .. 2^64 - 1
  --guidance S       how strongly the prompt steers, 1 .. 100; 1 turns guidance off
  --temperature T    0 .. 100; 0 takes the most likely token each time
  --top-k K          keeps the K most likely tokens; 0 keeps all
  --top-p P          keeps the most likely tokens up to this probability; > 0 .. 1
  --repetition-penalty R
                     above 1 it makes tokens that the picture has already less likely; .01 .. 100, 1 if left out: none
  --negative TEXT    what to steer away from; takes guidance over 1
  --images N         so many pictures and a contact sheet; 1 .. ${MAX_IMAGE_COUNT}
  --priority P       low, normal or high: running pictures of a lower priority give way
  --draft-window N   drafts N - 1 tokens and verifies them in one pass, the picture stays the same; 1 .. 64, 1 turns
                     it off; auto, the default, lets the generator choose
  --bundle DIR       the model; the embedded one if left out
  --out FILE         .png, .webp or .jpg; out/PROMPT-SEED.png if left out
  --previews DIR     writes a preview there after each finished row of tokens, or stage of a model that has some
  --target HOST:PORT a decoder that runs already
  --tls-ca FILE      speak TLS with it and trust whom FILE has signed, or \`system\`; TESSERA_TLS_CA
  --tls-cert FILE    shown to a decoder that asks for it, with --tls-key FILE; TESSERA_TLS_CERT, TESSERA_TLS_KEY
                     an API key is taken from TESSERA_API_KEY or the file TESSERA_API_KEY_FILE, never from a flag
  --json             the last line of stdout is one JSON object
  --help             this text
`;

const FLAGS = {
  seed: { type: "string" },
  guidance: { type: "string" },
  temperature: { type: "string" },
  "top-k": { type: "string" },
  "top-p": { type: "string" },
  "repetition-penalty": { type: "string" },
  negative: { type: "string" },
  images: { type: "string" },
  priority: { type: "string" },
  "draft-window": { type: "string" },
  bundle: { type: "string" },
  out: { type: "string" },
  previews: { type: "string" },
  target: { type: "string" },
  "tls-ca": { type: "string" },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
} as const;

const FORMATS: Readonly<Record<string, FileFormat>> = { ".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg" };

/**
 * Parse the command line of `generate`.
 * @returns undefined if it asks for help.
 * @throws AppError `invalid-request` naming the flag, its rule and the value.
 */
export function parseGenerateOptions(args: readonly string[]): GenerateOptions | undefined {
  const { values, positionals } = parseFlags({ args: [...args], options: FLAGS, allowPositionals: true, strict: true });
  if (values.help) return undefined;
  const prompt = promptWord(positionals) ?? "";
  if (prompt.trim() === "") throw new AppError("invalid-request", "PROMPT must not be empty");
  if (values.target !== undefined && values.bundle !== undefined) {
    throw new AppError("invalid-request", "`--bundle` has no meaning with `--target`: the services there have theirs");
  }
  return {
    prompt,
    negativePrompt: values.negative,
    seed: seedFlag("--seed", values.seed),
    guidanceScale: floatFlag("--guidance", values.guidance, { min: 1, max: 100 }),
    temperature: floatFlag("--temperature", values.temperature, { min: 0, max: 100 }),
    topK: integerFlag("--top-k", values["top-k"], { min: 0, max: 2 ** 32 - 1 }),
    topP: floatFlag("--top-p", values["top-p"], { min: 0, max: 1 }),
    repetitionPenalty: floatFlag("--repetition-penalty", values["repetition-penalty"], { min: 0.01, max: 100 }),
    imageCount: integerFlag("--images", values.images, { min: 1, max: MAX_IMAGE_COUNT }) ?? 1,
    priority: choiceFlag("--priority", values.priority, PRIORITIES),
    draftWindow: draftWindowFlag(values["draft-window"]),
    bundleFolder: values.bundle,
    target: hostPortFlag("--target", values.target),
    securityEnv: given({ TESSERA_TLS_CA: values["tls-ca"], TESSERA_TLS_CERT: values["tls-cert"], TESSERA_TLS_KEY: values["tls-key"] }),
    outFile: values.out,
    format: formatOf(values.out),
    previewFolder: values.previews,
    isJson: values.json,
  };
}

function draftWindowFlag(text: string | undefined): number | undefined {
  return text === "auto" ? undefined : integerFlag("--draft-window", text, { min: 1, max: 2 ** 32 - 1 });
}

function given(env: Env): Env {
  return Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined));
}

function formatOf(outFile: string | undefined): FileFormat {
  if (outFile === undefined) return "png";
  const format = FORMATS[extname(outFile).toLowerCase()];
  if (format === undefined) throw invalidRequest("--out", "a file that ends in .png, .webp or .jpg", outFile);
  return format;
}
