import { hasStages, hasTokens, type Bundle } from "#libs/bundle/bundle.js";
import { stageTokenCount } from "#libs/bundle/stage-manifest.js";
import { convertCheckpoint } from "#libs/convert/convert-checkpoint.js";
import type { ConvertOptions } from "#libs/convert/convert.js";
import { runCommand } from "./command.js";
import { CONVERT_HELP, parseConvertOptions } from "./convert-options.js";
import { openProgress } from "./progress.js";

/** What was written, as a table for people. */
function summaryOf(bundle: Bundle): string {
  const { folder, manifest, digest } = bundle;
  const { image, transformer } = manifest;
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2).padStart(10)} MB`;
  return [
    `${manifest.name} (${transformer.weights}) in ${folder}`,
    ...Object.entries(manifest.files).map(([file, { bytes }]) => `  ${file.padEnd(22)}${megabytes(bytes)}`),
    `  ${image.height} x ${image.width} pixels from ${image.gridHeight} x ${image.gridWidth} ${tokensOf(bundle)}`,
    `  ${transformer.layers} layers of ${transformer.hiddenSize}, ${manifest.text.vocabularySize} text tokens`,
    `  digest ${digest}`,
    "",
  ].join("\n");
}

function tokensOf(bundle: Bundle): string {
  if (hasTokens(bundle)) return `of ${bundle.manifest.image.codebookSize} image tokens`;
  if (!hasStages(bundle)) return "";
  const { stages, transformer } = bundle.manifest;
  return `in ${stages.length} stages, ${stageTokenCount(stages)} image tokens of ${transformer.tokenMapChannels} numbers`;
}

/** Counts the checkpoints' megabytes on stderr from the first array on. */
async function convertVisibly(options: ConvertOptions): Promise<Bundle> {
  const progress = openProgress(process.stderr, "MB");
  const megabytes = (bytes: number): number => Math.ceil(bytes / 1e6);
  let isBegun = false;
  const onProgress = (doneBytes: number, totalBytes: number): void => {
    if (!isBegun) progress.begin(megabytes(totalBytes));
    isBegun = true;
    progress.advance(megabytes(doneBytes));
  };
  try {
    return await convertCheckpoint({ ...options, onProgress });
  } finally {
    progress.end();
  }
}

await runCommand(async ({ signal }) => {
  const options = parseConvertOptions(process.argv.slice(2));
  process.stdout.write(options === undefined ? CONVERT_HELP : summaryOf(await convertVisibly({ ...options, signal })));
});
