import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import type { Sprite } from "./icons.js";
import { SpriteCabinet } from "./sprite-cabinet.js";
import { readVocabulary } from "./vocabulary.js";

/** Sides of a drawing in a 96-pixel scene: among others, and alone. */
const SIZES = [48, 80] as const;
const COLUMNS = 20;

/** Write every object in every given style as `icons-SIZE.webp`, styles first, in the vocabulary's order, 20 a row. */
async function makeAtlas(packages: string, styles: readonly string[], out: string): Promise<void> {
  const vocabulary = readVocabulary();
  const cabinet = new SpriteCabinet(packages, vocabulary);
  mkdirSync(out, { recursive: true });
  for (const size of SIZES) {
    const sprites = await Promise.all(styles.flatMap((style) => (
      vocabulary.objects.map(({ noun }) => cabinet.sprite(noun, undefined, style, size))
    )));
    if (sprites.includes(undefined)) throw new Error("`--styles` must name styles that draw every object");
    await writeSheet(sprites as Sprite[], size, join(out, `icons-${size}.webp`));
  }
}

async function writeSheet(sprites: readonly Sprite[], size: number, file: string): Promise<void> {
  const [width, height] = [COLUMNS * size, Math.ceil(sprites.length / COLUMNS) * size];
  const sheet = Buffer.alloc(width * height * 4);
  for (const [index, { rgba }] of sprites.entries()) {
    const [left, top] = [(index % COLUMNS) * size, Math.floor(index / COLUMNS) * size];
    for (let y = 0; y < size; y++) {
      sheet.set(rgba.subarray(y * size * 4, (y + 1) * size * 4), ((top + y) * width + left) * 4);
    }
  }
  await sharp(sheet, { raw: { width, height, channels: 4 } }).webp({ lossless: true, effort: 6 }).toFile(file);
}

const { values } = parseArgs({
  options: { icons: { type: "string" }, styles: { type: "string", default: "shaded,flat" }, out: { type: "string" } },
});
if (values.icons === undefined || values.out === undefined) {
  console.error("usage: make-atlas --icons NODE_MODULES --out DIR [--styles shaded,flat]");
  process.exit(2);
}
await makeAtlas(values.icons, values.styles.split(","), values.out);
