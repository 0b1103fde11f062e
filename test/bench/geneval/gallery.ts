import { readdir, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { writeOutFile } from "#libs/cli/out-files.js";
import { readPicture, type Picture } from "./picture.js";
import type { PromptedScene } from "./prompts.js";

/** The pictures of one model for one suite, in a folder of their own: what is there need not be made again. */
export class Gallery {
  readonly #folder: string;
  readonly #files: Set<string>;

  /** @param folder need not exist yet. */
  static async open(folder: string): Promise<Gallery> {
    return new Gallery(folder, new Set(await readdir(folder).catch(() => [])));
  }

  private constructor(folder: string, files: Set<string>) {
    this.#folder = folder;
    this.#files = files;
  }

  /** True when all pictures of a prompt are there. */
  has({ index }: PromptedScene, images: number): boolean {
    return Array.from({ length: images }, (_, image) => nameOf(index, image)).every((name) => this.#files.has(name));
  }

  /** Keep an encoded picture; it appears whole or not at all. */
  async write({ index }: PromptedScene, image: number, data: Uint8Array): Promise<void> {
    const [name, file] = [nameOf(index, image), join(this.#folder, nameOf(index, image))];
    await writeOutFile(`${file}.part`, data);
    await rename(`${file}.part`, file);
    this.#files.add(name);
  }

  /** The pictures of a prompt as the judges see them. */
  async read({ index }: PromptedScene, images: number): Promise<Picture[]> {
    const names = Array.from({ length: images }, (_, image) => nameOf(index, image));
    return Promise.all(names.map(async (name) => readPicture(await readFile(join(this.#folder, name)))));
  }
}

function nameOf(index: number, image: number): string {
  return `${String(index).padStart(3, "0")}-${image}.png`;
}
