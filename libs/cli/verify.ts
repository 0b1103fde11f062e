import { openBundle } from "#libs/bundle/bundle.js";
import { AppError, mismatch } from "#libs/errors/errors.js";
import { parseFlags, runCommand } from "./command.js";

const HELP = `npm run verify -- DIR [--digest HEX]

Reads every file of a model and compares it with the hash in its model.json; ends with an error if one differs.

  --digest HEX   what the model's own digest must be; it is printed without it too
`;

await runCommand(async ({ signal }) => {
  const { values, positionals: [folder, ...more] } = parseFlags({
    args: process.argv.slice(2), options: { digest: { type: "string" }, help: { type: "boolean" } }, allowPositionals: true, strict: true,
  });
  if (values.help) return void process.stdout.write(HELP);
  if (folder === undefined || more.length > 0) throw new AppError("invalid-request", "DIR must be one folder");
  const { manifest, digest } = await openBundle(folder, { signal });
  if (values.digest !== undefined && values.digest !== digest) {
    throw mismatch(`${folder} holds another model than was asked for: ${digest}, not ${values.digest}`);
  }
  process.stdout.write(`${manifest.name} ${digest}\n`);
});
