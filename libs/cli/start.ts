import { notReady, type AppError } from "#libs/errors/errors.js";
import { readDrainMs } from "#libs/rpc/serve.js";
import { parseFlags, runCommand } from "./command.js";
import { SERVICE_NAMES } from "./service-process.js";
import { firstEnd, startStack, stopStack, type Addresses } from "./stack.js";

const HELP = `npm start -- [--bundle DIR]

Starts the three services on their standard ports and keeps them until Ctrl-C.
The variables of the services, such as TESSERA_THREADS and OTEL_EXPORTER_OTLP_ENDPOINT, hold for all of them.
`;

const ADDRESSES: Addresses = { tokenizer: "127.0.0.1:50051", generator: "127.0.0.1:50052", decoder: "127.0.0.1:50053" };

/** How much longer than open calls the rest of a stop may take. */
const REST_MS = 5000;

const EXAMPLES = `
Try:
  npm run generate -- "three red apples" --target ${ADDRESSES.decoder}
  grpcurl -plaintext -d '{"generation": {"prompt": "three red apples"}}' \\
    ${ADDRESSES.decoder} tessera.v1.DecoderService/GenerateImage

Ctrl-C stops them.
`;

await runCommand(async ({ signal }) => {
  const { values } = parseFlags({
    args: process.argv.slice(2), options: { bundle: { type: "string" }, help: { type: "boolean" } }, strict: true,
  });
  if (values.help) return void process.stdout.write(HELP);

  const env = values.bundle === undefined ? {} : { TESSERA_BUNDLE: values.bundle };
  const stack = await startStack({ addresses: ADDRESSES, env, showLog: true, signal }).catch(explainTakenPort);
  try {
    for (const name of SERVICE_NAMES) process.stdout.write(`${name.padEnd(10)} ${stack[name].address}\n`);
    process.stdout.write(EXAMPLES);
    await stoppedOrBroken(signal, firstEnd(stack));
  } finally {
    await stopStack(stack, readDrainMs(process.env) + REST_MS);
  }
});

function explainTakenPort(error: AppError): never {
  const taken = Object.values(ADDRESSES).find((address) => error.message.includes(`cannot listen on ${address}`));
  if (taken === undefined || !error.message.includes("EADDRINUSE")) throw error;
  throw notReady(`${taken} is taken: do the services run already? \`npm run serve -- --help\` tells how to use other ports`, error);
}

/** Returns when asked to stop. @throws AppError if a service ends by itself. */
async function stoppedOrBroken(signal: AbortSignal, broken: ReturnType<typeof firstEnd>): Promise<void> {
  const stopped = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  const error = await Promise.race([stopped, broken]);
  if (error !== undefined) throw error;
}
