import { readFileSync } from "node:fs";
import { join } from "node:path";

/** A thing that can be drawn: its names and the Unicode codepoints that find its icon in every set. */
export interface DrawableObject {
  /** Lower-case hexadecimal codepoints joined by "-", without variation selectors. */
  readonly codepoint: string;
  readonly noun: string;
  readonly plural: string;
  readonly synonyms: readonly { readonly noun: string; readonly plural: string }[];
}

/** A named colour; components in 0..255. */
export interface NamedColour {
  readonly name: string;
  readonly rgb: readonly [number, number, number];
}

/** A drawing style is one icon set; `package` is its npm name. */
export interface Style {
  readonly name: string;
  readonly package: string;
  readonly licence: string;
}

/** How the first object lies relative to the second. */
export type RelationName = "left" | "right" | "above" | "below";

/** One rare concept that only ever appears alone and in its own colours. */
export interface LongTailConcept {
  readonly codepoint: string;
  readonly noun: string;
  /** CLDR keywords, used as synonyms. */
  readonly keywords: readonly string[];
}

/** Everything a scene can be made of. */
export interface Vocabulary {
  readonly objects: readonly DrawableObject[];
  readonly colours: readonly NamedColour[];
  readonly backgrounds: readonly NamedColour[];
  readonly relations: readonly { readonly name: RelationName; readonly phrase: string }[];
  readonly styles: readonly Style[];
  readonly longTail: readonly LongTailConcept[];
}

/** The folder that holds the recipe's data files, whether the code runs from its source or compiled. */
export const TRAINING_FOLDER = "libs/training";

/**
 * Read the committed vocabulary.
 * @param root the project's root folder.
 */
export function readVocabulary(root: string = process.cwd()): Vocabulary {
  const read = (name: string) => JSON.parse(readFileSync(join(root, TRAINING_FOLDER, name), "utf8"));
  return { ...read("vocabulary.json"), longTail: read("long-tail.json") };
}
