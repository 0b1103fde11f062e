import type { TokenBundle } from "#libs/bundle/bundle.js";
import { convert, type ConvertOptions } from "#libs/convert/convert.js";
import { runCommand } from "./command.js";
import { CONVERT_HELP, parseConvertOptions } from "./convert-options.js";
import { openProgress } from "./progress.js";

/** What was written, as a table for people. */
function summaryOf({ folder, manifest, digest }: TokenBundle): string {
  const { image, transformer } = manifest;
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2).padStart(10)} MB`;
  return [
    `${manifest.name} (${transformer.weights}) in ${folder}`,
    ...Object.entries(manifest.files).map(([file, { bytes }]) => `  ${file.padEnd(22)}${megabytes(bytes)}`),
    `  ${image.height} x ${image.width} pixels from ${image.gridHeight} x ${image.gridWidth} of ${image.codebookSize} image tokens`,
    `  ${transformer.layers} layers of ${transformer.hiddenSize}, ${manifest.text.vocabularySize} text tokens`,
    `  digest ${digest}`,
    "",
  ].join("\n");
}

/** Counts the checkpoints' megabytes on stderr from the first array on. */
async function convertVisibly(options: ConvertOptions): Promise<TokenBundle> {
  const progress = openProgress(process.stderr, "MB");
  const megabytes = (bytes: number): number => Math.ceil(bytes / 1e6);
  let isBegun = false;
  const onProgress = (doneBytes: number, totalBytes: number): void => {
    if (!isBegun) progress.begin(megabytes(totalBytes));
    isBegun = true;
    progress.advance(megabytes(doneBytes));
  };
  try {
    return await convert({ ...options, onProgress });
  } finally {
    progress.end();
  }
}

await runCommand(async ({ signal }) => {
  const options = parseConvertOptions(process.argv.slice(2));
  process.stdout.write(options === undefined ? CONVERT_HELP : summaryOf(await convertVisibly({ ...options, signal })));
});
