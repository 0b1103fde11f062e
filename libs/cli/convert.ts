import type { Bundle } from "#libs/bundle/bundle.js";
import { convert } from "#libs/convert/convert.js";
import { runCommand } from "./command.js";
import { CONVERT_HELP, parseConvertOptions } from "./convert-options.js";

/** What was written, as a table for people. */
function summaryOf({ folder, manifest, digest }: Bundle): string {
  const { image, transformer } = manifest;
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(2).padStart(10)} MB`;
  return [
    `${manifest.name} (${transformer.weights}) in ${folder}`,
    ...Object.entries(manifest.files).map(([file, { bytes }]) => `  ${file.padEnd(20)}${megabytes(bytes)}`),
    `  ${image.height} x ${image.width} pixels from ${image.gridHeight} x ${image.gridWidth} of ${image.codebookSize} image tokens`,
    `  ${transformer.layers} layers of ${transformer.hiddenSize}, ${manifest.text.vocabularySize} text tokens`,
    `  digest ${digest}`,
    "",
  ].join("\n");
}

await runCommand(async ({ signal }) => {
  const options = parseConvertOptions(process.argv.slice(2));
  process.stdout.write(options === undefined ? CONVERT_HELP : summaryOf(await convert({ ...options, signal })));
});
