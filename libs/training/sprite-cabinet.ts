import { readFileSync } from "node:fs";
import { join } from "node:path";
import { IconSource, type Sprite } from "./icons.js";
import { recolour } from "./render.js";
import type { NamedColour, Vocabulary } from "./vocabulary.js";

/** Emoji names by codepoint in the form the older icon sets use. */
function readSlugs(packages: string): Record<string, string> {
  const emoji: Record<string, { slug: string }> = JSON.parse(
    readFileSync(join(packages, "unicode-emoji-json/data-by-emoji.json"), "utf8"),
  );
  return Object.fromEntries(Object.entries(emoji).map(([symbol, { slug }]) => {
    const codepoints = [...symbol].map((char) => char.codePointAt(0)!.toString(16)).filter((hex) => hex !== "fe0f");
    return [codepoints.join("-"), slug.replaceAll("_", "-")];
  }));
}

/** Draws sprites once each; a scene asks for them by item. */
export class SpriteCabinet {
  readonly #sources = new Map<string, IconSource>();
  readonly #sprites = new Map<string, Promise<Sprite | undefined>>();

  readonly #vocabulary: Vocabulary;

  /** @param packages the `node_modules` folder that holds the icon packages of all styles asked for. */
  constructor(packages: string, vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
    const slugs = readSlugs(packages);
    for (const style of vocabulary.styles) this.#sources.set(style.name, new IconSource(packages, style, slugs));
  }

  /** An object in a style at `size` pixels, repainted if `colour` is given; undefined where the style lacks its icon. */
  sprite(object: string, colour: NamedColour | undefined, style: string, size: number): Promise<Sprite | undefined> {
    const key = `${object}|${colour?.name ?? ""}|${style}|${size}`;
    let sprite = this.#sprites.get(key);
    if (sprite === undefined) {
      sprite = this.#draw(object, colour, style, size);
      this.#sprites.set(key, sprite);
    }
    return sprite;
  }

  async #draw(object: string, colour: NamedColour | undefined, style: string, size: number) {
    const { objects, longTail } = this.#vocabulary;
    const { codepoint } = objects.find(({ noun }) => noun === object) ?? longTail.find(({ noun }) => noun === object)!;
    const plain = await this.#sources.get(style)!.sprite(codepoint, size);
    return plain !== undefined && colour !== undefined ? recolour(plain, colour) : plain;
  }
}
