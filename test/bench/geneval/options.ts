import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { parseFlags } from "#libs/cli/command.js";
import { floatFlag, hostPortFlag, integerFlag } from "#libs/cli/flags.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { JUDGE_FOLDER } from "./detector.js";
import { SUITES, type Suite } from "./prompts.js";

/** What the benchmark is asked for. */
export interface GenevalOptions {
  readonly suite: Suite;
  /** Prompts, spread evenly over the suite; all if left out. */
  readonly limit?: number;
  /** Pictures of each prompt. */
  readonly images: number;
  /** The models whose services are started, one after the other. */
  readonly bundles: readonly string[];
  /** `host:port` of a decoder that runs already. */
  readonly target?: string;
  /** Requests that are under way at one time. */
  readonly parallel: number;
  /** Sampling settings in place of the bundle's own. */
  readonly settings: Readonly<Partial<Record<"guidanceScale" | "temperature" | "topK" | "topP", number>>>;
  /** Where pictures and the report go. */
  readonly folder: string;
  /** Print the report as JSON only. */
  readonly isJson: boolean;
  /** Judge what must be refused instead of a model. */
  readonly areControls: boolean;
  /** The encoder that belongs to the model's decoder; without one the codec is not measured. */
  readonly encoderFile?: string;
  /** A network for distances between sets of pictures. */
  readonly featuresFile: string;
  /** Write fresh renders of the prompts to this file instead of judging a model. */
  readonly rendersFile?: string;
  /** Judge the pictures of this file instead of a model's. */
  readonly picturesFile?: string;
}

/** What `--help` prints. */
export const GENEVAL_HELP = `npm run bench -- geneval [--suite seen|unseen] [--limit PROMPTS] [--images N] [--bundle DIR ... | --target HOST:PORT] [--json]

Makes pictures of 553 prompts in GenEval's six tasks (arXiv 2310.11513) and has a detector decide which show what was asked for.

  --suite NAME        seen: combinations that training may hold; unseen: only those it never held (default seen)
  --limit PROMPTS     only so many prompts, spread over the tasks
  --images N          pictures of each prompt (default 4, as GenEval)
  --bundle DIR        the model (default the embedded one); several are set side by side, each compared with the one before
  --target HOST:PORT  ask a decoder that runs already
  --parallel N        requests under way at one time (default 4)
  --guidance S, --temperature T, --top-k K, --top-p P   instead of the bundle's own settings
  --out DIR           where pictures, sheet and report go; a run that was stopped goes on from there (default out/geneval)
  --json              print only the report, as one line of JSON
  --encoder FILE      the encoder that belongs to the model's decoder, for the codec's own scores (there for the embedded model)
  --features FILE     a network from uint8 [B, 96, 96, 3] to \`features\`, for Fréchet and kernel distances (default the judge's trunk)
  --controls          judge pictures that must be refused
  --renders FILE      write fresh renders of the prompts as bytes [N, 96, 96, 3]
  --pictures FILE     judge such a file

The last line is one JSON object with \`overall\` and each task.
`;

/** Read the command line; undefined when it asks for help. */
export function parseGenevalOptions(args: readonly string[]): GenevalOptions | undefined {
  const text = { type: "string" } as const;
  const { values } = parseFlags({
    args: [...args], strict: true,
    options: {
      suite: { type: "string", default: "seen" }, limit: text, images: text, bundle: { type: "string", multiple: true, default: [DEFAULT_BUNDLE] },
      target: text, parallel: text, guidance: text, temperature: text, "top-k": text, "top-p": text,
      out: { type: "string", default: "out/geneval" }, json: { type: "boolean" }, controls: { type: "boolean" }, renders: text,
      pictures: text, encoder: text, features: text, help: { type: "boolean" },
    },
  });
  if (values.help) return undefined;
  const suite = SUITES.find((name) => name === values.suite);
  if (suite === undefined) throw invalidRequest("--suite", `one of ${SUITES.join(", ")}`, values.suite);
  const isEmbedded = values.bundle.every((bundle) => bundle === DEFAULT_BUNDLE) && values.target === undefined;
  return {
    suite, bundles: values.bundle, featuresFile: values.features ?? `${JUDGE_FOLDER}judge.onnx`, folder: values.out, isJson: values.json ?? false, areControls: values.controls ?? false,
    images: integerFlag("--images", values.images, { min: 1, max: 64 }) ?? 4,
    parallel: integerFlag("--parallel", values.parallel, { min: 1, max: 64 }) ?? 4,
    settings: given({
      guidanceScale: floatFlag("--guidance", values.guidance, { min: 1, max: 100 }),
      temperature: floatFlag("--temperature", values.temperature, { min: 0, max: 100 }),
      topK: integerFlag("--top-k", values["top-k"], { min: 0, max: 1_000_000 }),
      topP: floatFlag("--top-p", values["top-p"], { min: 0, max: 1 }),
    }),
    ...given({
      limit: integerFlag("--limit", values.limit, { min: 1, max: 553 }), target: hostPortFlag("--target", values.target),
      encoderFile: values.encoder ?? (isEmbedded ? `${JUDGE_FOLDER}encoder.onnx` : undefined),
      rendersFile: values.renders, picturesFile: values.pictures,
    }),
  };
}

/** An object without its undefined fields. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as
    { [K in keyof T]?: Exclude<T[K], undefined> };
}
