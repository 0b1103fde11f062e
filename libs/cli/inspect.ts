import { openTokenBundle } from "#libs/bundle/bundle.js";
import { OnnxSession } from "#libs/onnx/session.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { NpyFile } from "#libs/tensor/npy-file.js";
import { runCommand } from "./command.js";
import { readForcedIds, readImageTokens } from "./inspect-input.js";
import { INSPECT_HELP, parseInspectOptions, type InspectLogits, type InspectPixels } from "./inspect-options.js";

/** Write an array whole or not at all. @param fill appends all of its numbers. */
async function writeArray(path: string, shape: readonly number[], fill: (file: NpyFile) => Promise<void>): Promise<void> {
  const file = await NpyFile.create(path, shape);
  try {
    await fill(file);
    await file.finish();
  } catch (error) {
    await file.discard();
    throw error;
  }
  process.stdout.write(`${path}: float32 [${shape.join(", ")}]\n`);
}

async function inspectLogits(options: InspectLogits, signal: AbortSignal): Promise<void> {
  const { manifest, path } = await openTokenBundle(options.bundleFolder, { signal });
  const { ids, promptLength } = await readForcedIds(options.idsFile, manifest);
  const { transformer, image } = manifest;
  const runner = await TransformerRunner.open(path(transformer.file), transformer, { threads: options.threads });
  try {
    // A single window has no past, so nothing needs to be remembered.
    runner.reset(1, ids.length > options.window ? ids.length : 0);
    await writeArray(options.outFile, [ids.length - promptLength + 1, image.codebookSize], async (file) => {
      for (let start = 0; start < ids.length; start += options.window) {
        signal.throwIfAborted();
        const window = ids.slice(start, start + options.window);
        const firstWanted = Math.max(0, promptLength - 1 - start);
        const logits = await runner.run({ ids: [window], logitsFrom: Math.min(firstWanted, window.length - 1) });
        if (firstWanted < window.length) await file.append(logits);
      }
    });
  } finally {
    await runner.close();
  }
}

async function inspectPixels(options: InspectPixels, signal: AbortSignal): Promise<void> {
  const { manifest, path } = await openTokenBundle(options.bundleFolder, { signal });
  const tokens = await readImageTokens(options.tokensFile, manifest, options.grid);
  const session = await OnnxSession.open(path(manifest.decoder.file), { threads: options.threads });
  try {
    const feed = { type: "int64", dims: [1, ...options.grid], data: BigInt64Array.from(tokens, BigInt) } as const;
    const { pixels } = await session.run({ tokens: feed }, ["pixels"], { signal });
    await writeArray(options.outFile, pixels.dims.slice(1), (file) => file.append(pixels.data as Float32Array));
  } finally {
    await session.close();
  }
}

await runCommand(async ({ signal }) => {
  const options = parseInspectOptions(process.argv.slice(2));
  if (options === undefined) process.stdout.write(INSPECT_HELP);
  else await (options.what === "logits" ? inspectLogits(options, signal) : inspectPixels(options, signal));
});
