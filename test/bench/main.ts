import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { parseFlags, runCommand } from "#libs/cli/command.js";
import { floatFlag, integerFlag } from "#libs/cli/flags.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { conversion } from "./conversion.js";
import { ecar } from "./ecar/ecar.js";
import { engine } from "./engine.js";
import { geneval } from "./geneval/geneval.js";
import { previews } from "./previews.js";
import { serving } from "./serving.js";
import { simplear } from "./simplear/simplear.js";
import { weights } from "./weights.js";
import { whereTimeGoes, type BenchOptions } from "./where-time-goes.js";
import { windows } from "./windows.js";

const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<void>>> = {
  conversion, engine, main: whereTimeGoes, previews, serving, weights, windows,
};

const HELP = `npm run bench -- NAME [--bundle DIR] [--rounds N] [--against DIR] [--guidance S] [--json]

  conversion  what converting a random checkpoint of 0.5 billion weights takes of time and memory, for each weight type
  ecar        E-CAR against a DiT of equal size and against discrete tokens; has flags of its own: \`ecar --help\`
  engine      what batching and speculation bring, and what the engine costs beside the model
  geneval     how often a model's pictures show what was asked for; has flags of its own: \`geneval --help\`
  main        where the time goes from a prompt to a PNG, and what three services cost against one process
  previews    how far the pixels of finished rows in previews are from the final ones
  serving     latency and throughput of 1, 4 and 16 clients through all services, what each edge carries, cancel and preview
  simplear    what a published size costs, beside other engines; has flags of its own: \`simplear --help\`
  weights     what the bundle's weight type costs and gains against another bundle's, such as its fp32 form
  windows     what a pass costs by its draft window: how many tokens it must yield to pay

Prints a table for people, then one line of JSON; with --json engine, serving and windows print that line alone.
`;

await runCommand(async ({ signal }) => {
  const [first, ...rest] = process.argv.slice(2);
  if (first === "ecar") return ecar(rest, { signal });
  if (first === "geneval") return geneval(rest, { signal });
  if (first === "simplear") return simplear(rest, { signal });
  const { values, positionals } = parseFlags({
    args: process.argv.slice(2), allowPositionals: true, strict: true,
    options: {
      bundle: { type: "string", default: DEFAULT_BUNDLE }, rounds: { type: "string" }, against: { type: "string" },
      guidance: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const [name = ""] = positionals;
  if (!Object.hasOwn(BENCHES, name)) throw invalidRequest("NAME", `one of ${Object.keys(BENCHES).join(", ")}`, name);
  const rounds = integerFlag("--rounds", values.rounds, { min: 1, max: 1000 }) ?? 9;
  const guidance = floatFlag("--guidance", values.guidance, { min: 1, max: 100 });
  await BENCHES[name]({
    bundle: values.bundle, rounds, isJson: values.json ?? false, ...(values.against && { against: values.against }), ...(guidance && { guidance }),
  });
});
