import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseFlags, runCommand } from "#libs/cli/command.js";
import { choiceFlag } from "#libs/cli/flags.js";
import { AppError } from "#libs/errors/errors.js";
import { fullCosmos } from "./full-cosmos.js";
import { fullTransformer, type ReportCheck } from "./full-transformer.js";
import { PYTHON_PACKAGES } from "./reference.js";

const HELP = `npm run parity                     converted graphs of reduced width against committed results of PyTorch
npm run parity -- --full [PART]    the published sizes against references that are computed here; transformer or decoder alone

--full needs Python with ${PYTHON_PACKAGES.join(", ")}: python3 on PATH, or the one that TESSERA_PYTHON names. The first run makes
random checkpoints of the published sizes (1.1 GB for 0.5B, 0.5 GB for DV8x16x16) in $XDG_CACHE_HOME/tessera, by default ~/.cache/tessera; later runs
find them there. It takes about 12 GB of memory, 5 GB of disk and, on two cores, a quarter of an hour at first.
`;

/** Every check of the published sizes. */
const FULL: Readonly<Record<string, (report: ReportCheck, signal: AbortSignal) => Promise<void>>> = {
  transformer: fullTransformer, decoder: fullCosmos,
};

/** The files `*.test.js` beside this one, in the test runner. */
async function reducedWidths(signal: AbortSignal): Promise<void> {
  const folder = dirname(fileURLToPath(import.meta.url));
  const files = (await readdir(folder)).filter((name) => name.endsWith(".test.js")).map((name) => join(folder, name));
  const child = spawn(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit", signal });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new AppError("mismatch", "results differ from the reference");
}

async function publishedSizes(parts: readonly string[], signal: AbortSignal): Promise<void> {
  let failures = 0;
  let startedAt = performance.now();
  const report: ReportCheck = (name, distance, limit) => {
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    const holds = distance < limit;
    if (!holds) failures++;
    process.stdout.write(`${holds ? "ok    " : "not ok"} ${name.padEnd(32)} ${distance.toExponential(2)}  limit ${limit}  ${seconds} s\n`);
    startedAt = performance.now();
  };
  for (const part of parts) await FULL[part](report, signal);
  if (failures > 0) throw new AppError("mismatch", `${failures} comparison(s) beyond their limit`);
}

await runCommand(async ({ signal }) => {
  const { values, positionals } = parseFlags({
    args: process.argv.slice(2), strict: true, allowPositionals: true,
    options: { full: { type: "boolean" }, help: { type: "boolean" } },
  });
  if (values.help) return void process.stdout.write(HELP);
  if (!values.full) return reducedWidths(signal);
  const part = choiceFlag("PART", positionals[0], Object.keys(FULL));
  await publishedSizes(part === undefined ? Object.keys(FULL) : [part], signal);
});
