import sharp from "sharp";
import type { Sprite } from "#libs/training/icons.js";
import { CELL_PIXELS, paste, placementsOf, recolour } from "#libs/training/render.js";
import { Draws, isLegible, type Scene } from "#libs/training/scene.js";
import type { NamedColour, Vocabulary } from "#libs/training/vocabulary.js";
import { JUDGE_FOLDER } from "./detector.js";
import { SIDE, type Picture } from "./picture.js";

/** The styles in the atlas, in its order, and how often renders take each: as the embedded model's training does. */
export const ATLAS_STYLES = ["shaded", "flat"] as const;
const STYLE_WEIGHTS = { shaded: 0.7, flat: 0.3 } as const;
/** Sides of an object alone and of one among others. */
export const ATLAS_SIZES = [48, 80] as const;
const COLUMNS = 20;

/** The vocabulary's objects as the training scenes draw them, from the committed sheets of icons. */
export class Atlas {
  readonly vocabulary: Vocabulary;
  readonly #sheets: ReadonlyMap<number, Uint8Array>;

  static async open(vocabulary: Vocabulary): Promise<Atlas> {
    const sheets = await Promise.all(ATLAS_SIZES.map(async (size) => {
      const sheet = sharp(`${JUDGE_FOLDER}icons-${size}.webp`).ensureAlpha().raw({ depth: "uchar" });
      return [size, new Uint8Array(await sheet.toBuffer())] as const;
    }));
    return new Atlas(vocabulary, new Map(sheets));
  }

  private constructor(vocabulary: Vocabulary, sheets: ReadonlyMap<number, Uint8Array>) {
    this.vocabulary = vocabulary;
    this.#sheets = sheets;
  }

  /** One object in its own colours. */
  icon(object: string, style: string, size: number): Sprite {
    const { objects } = this.vocabulary;
    const index = (ATLAS_STYLES as readonly string[]).indexOf(style) * objects.length + objects.findIndex(({ noun }) => noun === object);
    const sheet = this.#sheets.get(size)!;
    const rgba = new Uint8Array(size * size * 4);
    const [left, top, stride] = [(index % COLUMNS) * size, Math.floor(index / COLUMNS) * size, COLUMNS * size * 4];
    for (let y = 0; y < size; y++) {
      const from = (top + y) * stride + left * 4;
      rgba.set(sheet.subarray(from, from + size * 4), y * size * 4);
    }
    return { size, rgba };
  }

  /** One item of a scene. */
  sprite(item: Scene["items"][number], style: string, size: number): Sprite {
    const plain = this.icon(item.object, style, size);
    return item.colour === undefined ? plain : recolour(plain, this.colour(item.colour));
  }

  /** A colour of objects. */
  colour(name: string): NamedColour {
    return this.vocabulary.colours.find((colour) => colour.name === name)!;
  }

  /** A fresh canvas. */
  canvas(background: string): Picture {
    const { rgb } = this.vocabulary.backgrounds.find(({ name }) => name === background)!;
    return Uint8Array.from({ length: SIDE * SIDE * 3 }, (_, i) => rgb[i % 3]!);
  }

  /** A scene as training draws it, each object moved by up to `shift` pixels. */
  draw(scene: Scene, draws: Draws, shift = 0): Picture {
    const picture = this.canvas(scene.background);
    for (const { item, column, row, cells } of placementsOf(scene, SIDE / CELL_PIXELS)) {
      const size = cells * CELL_PIXELS;
      const [left, top] = [column, row].map((cell) => {
        const moved = cell * CELL_PIXELS + Math.floor(draws.next() * (2 * shift + 1)) - shift;
        return Math.min(SIDE - size, Math.max(0, moved));
      });
      paste(picture, SIDE, this.sprite(scene.items[item]!, scene.style, size), left!, top!);
    }
    return picture;
  }
}

/** The prompted scene in any style the atlas has, on any background that shows it. */
export function variantOf(scene: Scene, draws: Draws, { backgrounds }: Vocabulary): Scene {
  const style = draws.weighted(STYLE_WEIGHTS);
  for (;;) {
    const variant = { ...scene, style, background: draws.next() < 0.4 ? scene.background : draws.pick(backgrounds).name };
    if (isLegible(variant)) return variant;
  }
}
