import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { parseFlags } from "#libs/cli/command.js";
import { floatFlag, integerFlag } from "#libs/cli/flags.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { SUITES, type Suite } from "../geneval/prompts.js";

/** What the benchmark is asked for. */
export interface EcarOptions {
  /** The bundle of continuous tokens; left out: the tiny random one of the tests. */
  readonly bundle?: string;
  /** The baseline's checkpoint; left out: the tiny random one of the tests. */
  readonly dit?: string;
  /** The bundle of discrete tokens. */
  readonly discrete: string;
  readonly suite: Suite;
  /** Prompts whose pictures are judged, spread over the suite; 0 for none. */
  readonly limit: number;
  /** Images that are timed; fewer of contenders with many passes. */
  readonly rounds: number;
  /** Unitless; left out: the bundle's own. */
  readonly guidanceScale?: number;
  /** Of the baseline; left out: as E-CAR's. */
  readonly ditGuidanceScale?: number;
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

  --bundle DIR     the bundle of continuous tokens (default: a tiny one with random weights, whose scores say nothing)
  --dit DIR        the baseline's checkpoint, the folder dit/ that export_ecar.py writes (default: a tiny random one)
  --discrete DIR   the bundle of discrete tokens (default the embedded one)
  --suite NAME     seen or unseen combinations (default seen)
  --limit PROMPTS  prompts whose pictures are judged, one each, of 553; 0 for none (default 12)
  --rounds N       images that are timed (default 5)
  --guidance S     instead of the bundle's own
  --dit-guidance S the baseline's, where another suits it better (default the same)
  --evaluations L  of the baseline's network, beside as many as E-CAR's (default 250,50,25,12)
  --threads N      of each network (default 1)
  --json           print only the report, as one line of JSON

The last line is one JSON object. \`macRatio\` and \`timeRatio\` compare with the DiT at its best score, one image at a time;
\`equal\` with the cheapest DiT whose score is E-CAR's or better by no more than .02 less.
`;

/** Read the command line; undefined when it asks for help. */
export function parseEcarOptions(args: readonly string[]): EcarOptions | undefined {
  const text = { type: "string" } as const;
  const { values } = parseFlags({
    args: [...args], strict: true,
    options: {
      bundle: text, dit: text, discrete: { type: "string", default: DEFAULT_BUNDLE }, suite: { type: "string", default: "seen" }, limit: text,
      rounds: text, guidance: text, "dit-guidance": text,
      evaluations: { type: "string", default: "250,50,25,12" }, threads: text, json: { type: "boolean" }, help: { type: "boolean" },
    },
  });
  if (values.help) return undefined;
  const suite = SUITES.find((name) => name === values.suite);
  if (suite === undefined) throw invalidRequest("--suite", `one of ${SUITES.join(", ")}`, values.suite);
  if ((values.bundle === undefined) !== (values.dit === undefined)) {
    throw invalidRequest("--dit", "given with --bundle and only then: both must come of one training", values.dit);
  }
  const guidanceScale = floatFlag("--guidance", values.guidance, { min: 1, max: 100 });
  const ditGuidanceScale = floatFlag("--dit-guidance", values["dit-guidance"], { min: 1, max: 100 });
  return {
    discrete: values.discrete, suite, isJson: values.json ?? false,
    limit: integerFlag("--limit", values.limit, { min: 0, max: 553 }) ?? 12,
    rounds: integerFlag("--rounds", values.rounds, { min: 1, max: 1000 }) ?? 5,
    evaluations: values.evaluations.split(",").map((count) => integerFlag("--evaluations", count, { min: 1, max: 1000 })!),
    threads: integerFlag("--threads", values.threads, { min: 1, max: 256 }) ?? 1,
    ...(values.bundle !== undefined && { bundle: values.bundle }), ...(values.dit !== undefined && { dit: values.dit }),
    ...(guidanceScale !== undefined && { guidanceScale }), ...(ditGuidanceScale !== undefined && { ditGuidanceScale }),
  };
}
