import type { ImageSection } from "#libs/bundle/manifest.js";
import type { Pixels } from "#services/decoder/detokenizer.js";
import { previewTokens } from "#services/decoder/token-grid.js";
import { OneProcess } from "./one-process.js";
import { rounded, table } from "./table.js";
import type { BenchOptions } from "./where-time-goes.js";

const PROMPTS = [
  "a red apple", "three red apples on a blue background", "a green car", "two yellow stars", "a cat to the left of a house",
  "a purple umbrella on a white background", "a blue fish below a boat", "four orange flowers",
];

/** How far pixels are from the final ones, as absolute differences in 0 .. 255. */
interface Difference {
  readonly rowsDone: number;
  /** Over all finished rows. */
  readonly mean: number;
  readonly max: number;
  /** Without the last finished row, which still waits for what comes below it. */
  readonly innerMean: number;
  readonly innerMax: number;
}

/** How far the pixels of finished rows in a preview are from the final ones, by the number of finished rows. */
export async function previews({ bundle, rounds }: BenchOptions): Promise<void> {
  const local = await OneProcess.open(bundle);
  try {
    const { image, name } = { ...local.bundle.manifest };
    const perImage: (readonly Difference[])[] = [];
    for (let index = 0; index < rounds; index++) {
      perImage.push(await differences(local, await local.tokens(PROMPTS[index % PROMPTS.length], BigInt(index + 1)), image));
    }
    const rows = perImage[0].map((_, row) => meanOf(perImage.map((all) => all[row])));
    process.stdout.write(`${name}: pixels of finished rows in previews, absolute difference from the final ones (0 .. 255), \
${rounds} images\n\n`);
    process.stdout.write(table([
      ["rows done", "mean", "max", "mean without last row", "max without last row"],
      ...rows.map(({ rowsDone, mean, max, innerMean, innerMax }) => [`${rowsDone} of ${image.gridHeight}`, mean, max, innerMean, innerMax]),
    ]));
    process.stdout.write(`${JSON.stringify(rounded({ bench: "previews", model: name, images: rounds, rows }))}\n`);
  } finally {
    await local.close();
  }
}

async function differences({ detokenizer }: OneProcess, tokens: Uint32Array, image: ImageSection): Promise<readonly Difference[]> {
  const { gridHeight, gridWidth, height } = image;
  const final = await detokenizer.detokenize(tokens);
  const all: Difference[] = [];
  for (let rowsDone = 1; rowsDone < gridHeight; rowsDone++) {
    const preview = await detokenizer.detokenize(previewTokens(tokens.slice(0, rowsDone * gridWidth), image));
    const [mean, max] = difference(preview, final, (rowsDone * height) / gridHeight);
    const [innerMean, innerMax] = difference(preview, final, ((rowsDone - 1) * height) / gridHeight);
    all.push({ rowsDone, mean, max, innerMean, innerMax });
  }
  return all;
}

/** Mean and maximum over the first `pixelRows` rows; 0 over none. */
function difference(preview: Pixels, final: Pixels, pixelRows: number): readonly [number, number] {
  const length = pixelRows * final.width * 3;
  let [sum, max] = [0, 0];
  for (let index = 0; index < length; index++) {
    const distance = Math.abs(preview.data[index] - final.data[index]);
    sum += distance;
    max = Math.max(max, distance);
  }
  return [sum / Math.max(1, length), max];
}

/** The mean of the means, the largest of the maxima. */
function meanOf(all: readonly Difference[]): Difference {
  const mean = (key: "mean" | "innerMean") => all.reduce((sum, one) => sum + one[key], 0) / all.length;
  const max = (key: "max" | "innerMax") => Math.max(...all.map((one) => one[key]));
  return { rowsDone: all[0].rowsDone, mean: mean("mean"), max: max("max"), innerMean: mean("innerMean"), innerMax: max("innerMax") };
}
