import { dirname, join } from "node:path";
import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { parseFlags } from "#libs/cli/command.js";
import { floatFlag, integerFlag } from "#libs/cli/flags.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { SUITES, type Suite } from "../geneval/prompts.js";

/** Trained on the same latents for the same time, see README.md there. */
const BASELINE: string = join(dirname(DEFAULT_BUNDLE), "..", "..", "test", "bench", "ecar", "baseline");
const ECAR_BUNDLE: string = join(dirname(DEFAULT_BUNDLE), "emoji-ecar-96");

/** What the benchmark is asked for. */
export interface EcarOptions {
  /** The bundle of continuous tokens. */
  readonly bundle: string;
  /** The baseline's checkpoint. */
  readonly dit: string;
  /** The bundle of discrete tokens. */
  readonly discrete: string;
  readonly suite: Suite;
  /** Prompts whose pictures are judged, spread over the suite; 0 for none. */
  readonly limit: number;
  /** Images that are timed; fewer of contenders with many passes. */
  readonly rounds: number;
  /** Of E-CAR, each a contender of its own; left out: the bundle's own and 1, which halves the cost. Unitless. */
  readonly guidanceScales?: readonly number[];
  /** Of the baseline. */
  readonly ditGuidanceScale: number;
  /** Of the baseline, beside as many as E-CAR has. */
  readonly evaluations: readonly number[];
  readonly threads: number;
  readonly isJson: boolean;
}

/** What `--help` prints. */
export const ECAR_HELP = `npm run bench -- ecar [--bundle DIR] [--dit DIR] [--limit PROMPTS] [--json]

E-CAR against a DiT of equal size that denoises the whole latent, with as many evaluations as E-CAR takes and with more,
and against the discrete model: multiplications counted from the graphs, seconds side by side for one image and for eight, and
the score of GenEval's six tasks.

  --bundle DIR     the bundle of continuous tokens (default the embedded one)
  --dit DIR        the baseline's checkpoint, the folder dit/ that export_ecar.py writes (default the one kept here)
  --discrete DIR   the bundle of discrete tokens (default the embedded one)
  --suite NAME     seen or unseen combinations (default seen)
  --limit PROMPTS  prompts whose pictures are judged, one each, of 553; 0 for none (default 24)
  --rounds N       images that are timed (default 5)
  --guidance L     E-CAR's scales, each on its own (default the bundle's own, and 1 for none, which halves the cost)
  --dit-guidance S the baseline's (default 3, its best)
  --evaluations L  of the baseline's network, beside as many as E-CAR's (default 250,50,25,12)
  --threads N      of each network (default 1)
  --json           print only the report, as one line of JSON

The last line is one JSON object. \`macRatio\` and \`timeRatio\` compare, one image at a time, the DiT at its best score with the
cheapest E-CAR whose score is at most .02 less; \`equal\` compares that with the cheapest DiT whose score is at most .02 less.
`;

/** Read the command line; undefined when it asks for help. */
export function parseEcarOptions(args: readonly string[]): EcarOptions | undefined {
  const text = { type: "string" } as const;
  const { values } = parseFlags({
    args: [...args], strict: true,
    options: {
      bundle: { type: "string", default: ECAR_BUNDLE }, dit: { type: "string", default: BASELINE }, discrete: { type: "string", default: DEFAULT_BUNDLE }, suite: { type: "string", default: "seen" }, limit: text,
      rounds: text, guidance: text, "dit-guidance": text,
      evaluations: { type: "string", default: "250,50,25,12" }, threads: text, json: { type: "boolean" }, help: { type: "boolean" },
    },
  });
  if (values.help) return undefined;
  const suite = SUITES.find((name) => name === values.suite);
  if (suite === undefined) throw invalidRequest("--suite", `one of ${SUITES.join(", ")}`, values.suite);
  const guidanceScales = values.guidance?.split(",").map((scale) => floatFlag("--guidance", scale, { min: 1, max: 100 })!);
  return {
    bundle: values.bundle, dit: values.dit, discrete: values.discrete, suite, isJson: values.json ?? false,
    limit: integerFlag("--limit", values.limit, { min: 0, max: 553 }) ?? 24,
    rounds: integerFlag("--rounds", values.rounds, { min: 1, max: 1000 }) ?? 5,
    evaluations: values.evaluations.split(",").map((count) => integerFlag("--evaluations", count, { min: 1, max: 1000 })!),
    threads: integerFlag("--threads", values.threads, { min: 1, max: 256 }) ?? 1,
    ditGuidanceScale: floatFlag("--dit-guidance", values["dit-guidance"], { min: 1, max: 100 }) ?? 3,
    ...(guidanceScales !== undefined && { guidanceScales }),
  };
}
