import type { Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { runCommand } from "./command.js";
import type { GeneratedImages } from "./generate-images.js";
import { GENERATE_HELP, parseGenerateOptions, type GenerateOptions } from "./generate-options.js";
import { checkOutFile, defaultOutFile, numberedFile, previewFile, writeOutFile } from "./out-files.js";
import { openProgress } from "./progress.js";
import { reportOf, summaryOf, type WrittenFiles } from "./report.js";
import { firstEnd, startStack, stopStack } from "./stack.js";

/** How long a service may take to leave once the work is done or given up: nothing of worth is open then. */
const STOP_GRACE_MS = 3000;

const seconds = (since: number) => Math.round(performance.now() - since) / 1000;

/** Work with the decoder at `--target`, or with services of our own that are gone when the work ends. */
async function withDecoder<T>(
  options: GenerateOptions, { signal }: { readonly signal: AbortSignal },
  work: (address: string, options: { readonly signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  if (options.target !== undefined) return work(options.target, { signal });
  const { bundleFolder } = options;
  const env = {
    TESSERA_LOG_LEVEL: process.env["TESSERA_LOG_LEVEL"] || "warn", ...(bundleFolder && { TESSERA_BUNDLE: bundleFolder }),
  };
  const stack = await startStack({ env, signal });
  const broken = new AbortController();
  void firstEnd(stack).then((error) => broken.abort(error));
  try {
    return await work(stack.decoder.address, { signal: AbortSignal.any([signal, broken.signal]) });
  } catch (error) {
    broken.signal.throwIfAborted();
    throw error;
  } finally {
    await stopStack(stack, STOP_GRACE_MS);
  }
}

/** The file of one picture or of the contact sheet, and those of all pictures. */
function filesOf({ settings }: Started, { outFile, prompt, imageCount }: GenerateOptions): WrittenFiles {
  const file = outFile ?? defaultOutFile(prompt, settings?.seed ?? 0n);
  const files = Array.from({ length: imageCount }, (_, imageIndex) => (imageCount === 1 ? file : numberedFile(file, imageIndex)));
  return { file, files };
}

async function writeSheet(file: string, images: GeneratedImages["images"], options: GenerateOptions): Promise<void> {
  if (images.length === 1) return;
  // Loaded only here: it brings an image library that one picture does not need.
  const { contactSheet } = await import("./contact-sheet.js");
  await writeOutFile(file, await contactSheet(images.map(({ picture }) => picture.data), images[0].picture, options.format));
}

await runCommand(async ({ signal }) => {
  const options = parseGenerateOptions(process.argv.slice(2));
  if (options === undefined) return void process.stdout.write(GENERATE_HELP);

  await checkOutFile(options.outFile ?? defaultOutFile(options.prompt, 0n));
  if (options.previewFolder !== undefined) await checkOutFile(previewFile(options.previewFolder, 0, 0));
  const progress = openProgress(process.stderr, "tokens");
  const commandAt = performance.now();
  if (options.target === undefined) progress.say("starting the services");
  // Loaded while the services start, and not at all for a mistake in the command line.
  const loading = import("./generate-images.js");
  await withDecoder(options, { signal }, async (address, { signal: anyStop }) => {
    const startSeconds = seconds(commandAt);
    const { generateImages } = await loading;
    const generated = await generateImages(address, options, {
      progress, signal: anyStop,
      // Each as it is finished: what comes later may fail.
      onPicture: ({ imageIndex, data }, started) => writeOutFile(filesOf(started, options).files[imageIndex], data),
    });
    const written = filesOf(generated.started, options);
    await writeSheet(written.file, generated.images, options);
    const report = reportOf(generated, written, { seconds: seconds(commandAt), startSeconds });
    process.stdout.write(options.isJson ? `${JSON.stringify(report)}\n` : summaryOf(report));
  });
});
