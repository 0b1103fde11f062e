import type { Draws, Scene } from "./scene.js";
import type { Vocabulary } from "./vocabulary.js";

/** Numbers as captions write them, by their value. */
export const NUMBER_WORDS = ["zero", "one", "two", "three", "four"] as const;
const PREFIXES = ["a picture of", "an image of", "a photo of", "a drawing of"] as const;

/** The style that a caption may leave unsaid. */
export const DEFAULT_STYLE = "shaded";
/** The background that a caption may leave unsaid. */
export const DEFAULT_BACKGROUND = "white";

/** `phrase` after "a" or "an". */
export function withArticle(phrase: string): string {
  return `${/^[aeiou]/.test(phrase) ? "an" : "a"} ${phrase}`;
}

/** The noun of an object, singular or plural, now and then by a synonym. */
function nounOf(name: string, plural: boolean, draws: Draws, vocabulary: Vocabulary): string {
  const object = vocabulary.objects.find((candidate) => candidate.noun === name);
  if (object === undefined) {
    const keywords = vocabulary.longTail.find((candidate) => candidate.noun === name)?.keywords ?? [];
    return draws.next() < 0.2 && keywords.length > 0 ? draws.pick(keywords) : name;
  }
  const names = draws.next() < 0.15 && object.synonyms.length > 0 ? draws.pick(object.synonyms) : object;
  return plural ? names.plural : names.noun;
}

function itemPhrase(scene: Scene, index: number, draws: Draws, vocabulary: Vocabulary): string {
  const { object, colour } = scene.items[index]!;
  const noun = nounOf(object, scene.count > 1, draws, vocabulary);
  const described = colour === undefined ? noun : `${colour} ${noun}`;
  if (scene.count === 1) return withArticle(described);
  const number = draws.next() < 0.1 ? String(scene.count) : NUMBER_WORDS[scene.count]!;
  return `${number} ${described}`;
}

/**
 * A caption for a scene: terse ("two red apples") or a fuller sentence. White backgrounds and the default style are
 * mostly left unsaid; everything else the picture shows is always said, so that the caption fixes the picture.
 */
export function captionOf(scene: Scene, form: "short" | "long", draws: Draws, vocabulary: Vocabulary): string {
  const phrase = (index: number) => itemPhrase(scene, index, draws, vocabulary);
  let caption = phrase(0);
  if (scene.items.length === 2) {
    const relation = vocabulary.relations.find(({ name }) => name === scene.relation);
    caption += ` ${relation?.phrase ?? "and"} ${phrase(1)}`;
  }
  if (form === "long" || draws.next() < 0.2) caption = `${draws.pick(PREFIXES)} ${caption}`;
  if (scene.background !== DEFAULT_BACKGROUND || draws.next() < (form === "long" ? 0.6 : 0.15)) {
    const preposition = form === "long" ? draws.pick(["on", "against", "in front of"]) : "on";
    const plain = form === "long" && draws.next() < 0.5 ? "plain " : "";
    caption += ` ${preposition} a ${plain}${scene.background} background`;
  }
  if (scene.style !== DEFAULT_STYLE || draws.next() < (form === "long" ? 0.5 : 0.05)) {
    caption += form === "long" ? `, drawn in ${scene.style} style` : ` in ${scene.style} style`;
  }
  return caption;
}
