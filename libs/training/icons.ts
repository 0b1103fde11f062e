import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import type { Style } from "./vocabulary.js";

/** An RGBA picture, 8 bits a component, rows first. */
export interface Sprite {
  readonly size: number;
  /** `[size, size, 4]`, not premultiplied. */
  readonly rgba: Uint8Array;
}

interface IconSet {
  readonly width?: number;
  readonly height?: number;
  readonly icons: Record<string, { body: string; left?: number; top?: number; width?: number; height?: number }>;
  readonly aliases?: Record<string, { parent: string }>;
}

/** One style's drawings, found by codepoint. */
export class IconSource {
  readonly #folder: string;
  readonly #set: IconSet | undefined;
  readonly #nameByCodepoint: Record<string, string>;

  /**
   * @param packages the `node_modules` folder that holds the icon packages.
   * @param slugs names of the emoji by codepoint, for sets that carry no codepoints of their own.
   */
  constructor(packages: string, style: Style, slugs: Readonly<Record<string, string>>) {
    this.#folder = join(packages, style.package);
    const chars = join(this.#folder, "chars.json");
    const icons = join(this.#folder, "icons.json");
    this.#set = existsSync(icons) ? JSON.parse(readFileSync(icons, "utf8")) : undefined;
    const named = existsSync(chars) ? JSON.parse(readFileSync(chars, "utf8")) : {};
    this.#nameByCodepoint = Object.keys(named).length > 0 ? named : slugs;
  }

  /** The drawing at `size` x `size` pixels, or undefined where the set has none. */
  async sprite(codepoint: string, size: number): Promise<Sprite | undefined> {
    const source = this.#set === undefined ? this.#bitmap(codepoint) : this.#svg(this.#set, codepoint, size);
    if (source === undefined) return undefined;
    const image = sharp(source).resize(size, size, { fit: "contain", background: "#0000" }).ensureAlpha();
    const rgba = await image.raw({ depth: "uchar" }).toBuffer();
    return { size, rgba: new Uint8Array(rgba) };
  }

  #bitmap(codepoint: string): string | undefined {
    const file = join(this.#folder, "assets", `${codepoint}.webp`);
    return existsSync(file) ? file : undefined;
  }

  #svg(set: IconSet, codepoint: string, size: number): Buffer | undefined {
    const name = this.#nameByCodepoint[codepoint] ?? this.#nameByCodepoint[`${codepoint}-fe0f`];
    if (name === undefined) return undefined;
    const candidates = [name, `${name}-face`, `${name}-1`].flatMap((key) => [key, set.aliases?.[key]?.parent ?? key]);
    const icon = candidates.map((key) => set.icons[key]).find((found) => found !== undefined);
    if (icon === undefined) return undefined;
    const width = icon.width ?? set.width ?? 16;
    const height = icon.height ?? set.height ?? 16;
    const box = `${icon.left ?? 0} ${icon.top ?? 0} ${width} ${height}`;
    return Buffer.from(
      `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
        `viewBox="${box}" width="${size}" height="${size}">${icon.body}</svg>`,
    );
  }
}

/** The box around what is drawn: left, top, right, bottom in pixels. */
export function tightBox({ size, rgba }: Sprite): readonly [number, number, number, number] {
  let [left, top, right, bottom] = [size, size, 0, 0];
  for (let at = 0; at < size * size; at++) {
    if (rgba[at * 4 + 3]! <= 32) continue;
    const [x, y] = [at % size, Math.floor(at / size)];
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + 1), Math.max(bottom, y + 1)];
  }
  return [left, top, right, bottom];
}
