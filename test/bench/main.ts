import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { parseFlags, runCommand } from "#libs/cli/command.js";
import { floatFlag, integerFlag } from "#libs/cli/flags.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { conversion } from "./conversion.js";
import { previews } from "./previews.js";
import { weights } from "./weights.js";
import { whereTimeGoes, type BenchOptions } from "./where-time-goes.js";

const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<void>>> = {
  conversion, main: whereTimeGoes, previews, weights,
};

const HELP = `npm run bench -- NAME [--bundle DIR] [--rounds N] [--against DIR] [--guidance S]

  conversion  what converting a random checkpoint of 0.5 billion weights takes of time and memory, for each weight type
  main        where the time goes from a prompt to a PNG, and what three services cost against one process
  previews    how far the pixels of finished rows in previews are from the final ones
  weights     what the bundle's weight type costs and gains against another bundle's, such as its fp32 form

Prints a table for people, then one line of JSON.
`;

await runCommand(async () => {
  const { values, positionals } = parseFlags({
    args: process.argv.slice(2), allowPositionals: true, strict: true,
    options: {
      bundle: { type: "string", default: DEFAULT_BUNDLE }, rounds: { type: "string" }, against: { type: "string" },
      guidance: { type: "string" }, help: { type: "boolean" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const [name = ""] = positionals;
  if (!Object.hasOwn(BENCHES, name)) throw invalidRequest("NAME", `one of ${Object.keys(BENCHES).join(", ")}`, name);
  const rounds = integerFlag("--rounds", values.rounds, { min: 1, max: 1000 }) ?? 9;
  const guidance = floatFlag("--guidance", values.guidance, { min: 1, max: 100 });
  await BENCHES[name]({
    bundle: values.bundle, rounds, ...(values.against && { against: values.against }), ...(guidance && { guidance }),
  });
});
