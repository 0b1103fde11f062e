import { AppError } from "#libs/errors/errors.js";
import { tokenStream } from "#libs/clients/token-stream.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { readSecurity } from "#libs/rpc/security.js";
import { parseFlags, PATIENCE_MS, runCommand } from "./command.js";
import { hostPortFlag, integerFlag, promptWord, seedFlag } from "./flags.js";

const HELP = `npm run tokens -- PROMPT --target HOST:PORT [--seed N] [--images N]

Streams the tokens of PROMPT from a generator, one JSON object a line: {"image", "offset", "tokens"}.
TESSERA_TLS_* and TESSERA_API_KEY say whom to trust and what to show.
`;

await runCommand(async ({ signal }) => {
  const { values, positionals } = parseFlags({
    args: process.argv.slice(2), allowPositionals: true, strict: true,
    options: { target: { type: "string" }, seed: { type: "string" }, images: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help) return void process.stdout.write(HELP);
  const prompt = promptWord(positionals);
  const target = hostPortFlag("--target", values.target);
  if (prompt === undefined || target === undefined) throw new AppError("invalid-request", "PROMPT and --target must be given");
  const seed = seedFlag("--seed", values.seed);
  const imageCount = integerFlag("--images", values.images, { min: 1, max: 16 }) ?? 1;
  const { client, close } = connect(GeneratorService, target, { security: readSecurity(process.env) });
  try {
    for await (const event of tokenStream(client, { prompt, imageCount, ...(seed !== undefined && { seed }) }, { signal, timeoutMs: PATIENCE_MS })) {
      if (event.type !== "tokens") continue;
      const { imageIndex: image, offset, tokens } = event;
      process.stdout.write(`${JSON.stringify({ image, offset, tokens })}\n`);
    }
  } finally {
    close();
  }
});
