import { spawn } from "node:child_process";
import { once } from "node:events";
import type { ParseArgsConfig } from "node:util";
import type { Env } from "#libs/config/env.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { EXIT_CODES, parseFlags, runCommand } from "./command.js";
import { SERVICE_NAMES, serviceMain, type ServiceName } from "./service-process.js";

const HELP = `npm run serve -- ${SERVICE_NAMES.join("|")} [flags]

Runs one service. A flag does what its variable does, and wins over it.

  --address HOST:PORT    TESSERA_ADDRESS            where to listen
  --bundle DIR           TESSERA_BUNDLE             the model
  --tokenizer HOST:PORT  TESSERA_TOKENIZER_ADDRESS  where the generator finds the tokenizer
  --generator HOST:PORT  TESSERA_GENERATOR_ADDRESS  where the decoder finds the generator
  --threads N            TESSERA_THREADS            threads inside one operator
  --max-queue N          TESSERA_MAX_QUEUE          requests that may wait for the generator
  --provider NAME        TESSERA_PROVIDER           cpu or cuda
`;

/** The variable that each flag stands for. */
const VARIABLES: Readonly<Record<string, string>> = {
  address: "TESSERA_ADDRESS",
  bundle: "TESSERA_BUNDLE",
  tokenizer: "TESSERA_TOKENIZER_ADDRESS",
  generator: "TESSERA_GENERATOR_ADDRESS",
  threads: "TESSERA_THREADS",
  "max-queue": "TESSERA_MAX_QUEUE",
  provider: "TESSERA_PROVIDER",
};

const FLAGS: NonNullable<ParseArgsConfig["options"]> = {
  ...Object.fromEntries(Object.keys(VARIABLES).map((flag) => [flag, { type: "string" }])),
  help: { type: "boolean" },
};

await runCommand(async ({ signal }) => {
  const { values, positionals } = parseFlags({
    args: process.argv.slice(2), options: FLAGS, allowPositionals: true, strict: true,
  });
  if (values["help"]) return void process.stdout.write(HELP);
  const env = Object.entries(values).map(([flag, value]) => [VARIABLES[flag], String(value)]);
  await runService(serviceNameOf(positionals), Object.fromEntries(env), signal);
});

/** Be the parent of one service that owns this terminal, and end as it ends. */
async function runService(name: ServiceName, env: Env, signal: AbortSignal): Promise<void> {
  const child = spawn(process.execPath, [serviceMain(name)], {
    env: { ...process.env, ...env }, stdio: ["ignore", "inherit", "inherit", "ipc"], detached: true,
  });
  process.once("exit", () => child.kill("SIGKILL"));
  const drain = () => child.kill("SIGTERM");
  if (signal.aborted) drain();
  else signal.addEventListener("abort", drain, { once: true });
  const [code] = await once(child, "exit") as [number | null];
  // Without a code it was stopped before it could listen for that.
  if (!signal.aborted || code) process.exit(code ?? EXIT_CODES.failed);
}

function serviceNameOf(words: readonly string[]): ServiceName {
  const name = SERVICE_NAMES.find((known) => known === words[0]);
  if (name === undefined || words.length > 1) throw invalidRequest("SERVICE", `one of ${SERVICE_NAMES.join(", ")}`, words.join(" "));
  return name;
}
