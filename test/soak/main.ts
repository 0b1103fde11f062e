import { parseFlags, runCommand } from "#libs/cli/command.js";
import { integerFlag } from "#libs/cli/flags.js";
import { openProgress } from "#libs/cli/progress.js";
import { AppError } from "#libs/errors/errors.js";
import { table } from "#test/bench/table.js";
import { BEHAVIOURS } from "./client.js";
import { runSoak, type SoakReport } from "./soak.js";
import { violationsOf } from "./verdict.js";

const HELP = `npm run soak -- [--requests N] [--clients N] [--seed N]

Asks three services for images of random lengths, settings, priorities and draft windows; cancels, leaves, cuts
connections, reads slowly, and kills the decoder and the tokenizer meanwhile. Every image must have the tokens that it
has in peace, every client must get an answer, and nothing may stay behind in the generator. The model is tiny.

  --requests N  3000 if left out
  --clients N   at once; 24 if left out
  --seed N      fixes what is asked for; 1 if left out

Prints a table for people, then one line of JSON. Fails if anything is wrong.
`;

const MIB = 2 ** 20;

function tableOf({ outcomes }: SoakReport): string {
  const kinds = [...new Set(BEHAVIOURS.flatMap((behaviour) => Object.keys(outcomes[behaviour])))].sort();
  const counts = (behaviour: (typeof BEHAVIOURS)[number]) => kinds.map((kind) => (
    String((outcomes[behaviour] as Readonly<Record<string, number>>)[kind] ?? "")
  ));
  return table([["client", ...kinds], ...BEHAVIOURS.map((behaviour) => [behaviour, ...counts(behaviour)])]);
}

await runCommand(async () => {
  const { values } = parseFlags({
    args: process.argv.slice(2), strict: true,
    options: { requests: { type: "string" }, clients: { type: "string" }, seed: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help) return void process.stdout.write(HELP);
  const requests = integerFlag("--requests", values.requests, { min: 50, max: 1_000_000 }) ?? 3000;
  const clients = integerFlag("--clients", values.clients, { min: 1, max: 256 }) ?? 24;
  const seed = integerFlag("--seed", values.seed, { min: 0, max: 2 ** 31 - 1 }) ?? 1;
  const progress = openProgress(process.stderr, "requests");
  progress.begin(requests);
  const report = await runSoak({
    requests, clients, seed, recipes: Math.min(60, Math.ceil(requests / 10)), kills: Math.max(2, Math.floor(requests / 250)),
    onProgress: progress.advance,
  });
  progress.end();
  const { images, seconds, kills } = report;
  const memory = report.residentBytes.map((bytes) => (bytes / MIB).toFixed(0));
  process.stdout.write(`${tableOf(report)}
${images} images in ${seconds.toFixed(0)} s, ${kills} services killed, ${report.wrongImages} images wrong, ${report.unanswered} calls unanswered,
${report.leakedImages} images left in the generator, its memory over each tenth of the requests: ${memory.join(", ")} MiB
${JSON.stringify(report)}
`);
  const violations = violationsOf(report);
  if (violations.length > 0) throw new AppError("internal", violations.join("; "));
});
