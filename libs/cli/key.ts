import { randomBytes } from "node:crypto";
import { AppError, invalidRequest } from "#libs/errors/errors.js";
import { hashOf, KEY_NAME, KEY_NAME_RULE } from "#libs/rpc/api-keys.js";
import { parseFlags, runCommand } from "./command.js";
import { integerFlag } from "./flags.js";
import { SERVICE_NAMES } from "./service-process.js";

const HELP = `npm run key -- NAME SERVICE... [--calls-per-minute N] [--concurrent-calls N]

Makes an API key. The first line is the key, for its owner alone; the second is its entry for the list "keys" in the file
that TESSERA_API_KEYS names, which holds no secret.

  SERVICE   what it opens: ${SERVICE_NAMES.join(", ")}
`;

/** 256 bits: nobody guesses it, however fast the hash that it is kept under. */
const KEY_BYTES = 32;

await runCommand(async () => {
  const { values, positionals: [name, ...services] } = parseFlags({
    args: process.argv.slice(2), allowPositionals: true, strict: true,
    options: { "calls-per-minute": { type: "string" }, "concurrent-calls": { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help) return void process.stdout.write(HELP);
  if (name === undefined || services.length === 0) throw new AppError("invalid-request", "NAME and SERVICE must be given");
  if (!KEY_NAME.test(name)) throw invalidRequest("NAME", KEY_NAME_RULE, name);
  const unknown = services.find((service) => !(SERVICE_NAMES as readonly string[]).includes(service));
  if (unknown !== undefined) throw invalidRequest("SERVICE", `one of ${SERVICE_NAMES.join(", ")}`, unknown);
  const limits = { min: 0, max: 1_000_000 };
  const key = randomBytes(KEY_BYTES).toString("base64url");
  process.stdout.write(`${key}\n${JSON.stringify({
    name, sha256: hashOf(key).toString("hex"), services,
    calls_per_minute: integerFlag("--calls-per-minute", values["calls-per-minute"], limits),
    concurrent_calls: integerFlag("--concurrent-calls", values["concurrent-calls"], limits),
  })}\n`);
});
