import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { captionOf } from "./caption.js";
import { isHeldOut, type CombinationKey } from "./held-out.js";
import { Draws, trainingScene, type SceneMix } from "./scene.js";
import { readVocabulary } from "./vocabulary.js";

const vocabulary = readVocabulary();
const objects = vocabulary.objects.map(({ noun }) => noun);
const NUMBERS: Readonly<Record<string, number>> = { two: 2, three: 3, four: 4, "2": 2, "3": 3, "4": 4 };

/** Every name a caption may use for an object, longest first so that "hot dog" would win over "dog". */
const names = vocabulary.objects
  .flatMap(({ noun, plural, synonyms }) => [{ noun, plural }, ...synonyms].flatMap((n) => [[n.noun, noun], [n.plural, noun]]))
  .sort(([a], [b]) => b!.length - a!.length) as [string, string][];
const objectByName = new Map(names);
const colours = vocabulary.colours.map(({ name }) => name).join("|");
const phrase = new RegExp(
  `\\b(?:(two|three|four|2|3|4) )?(?:(${colours}) )?(${names.map(([name]) => name).join("|")})\\b`, "g",
);

/** The combinations that a caption's text names, read without knowing the scene it was made from. */
function keysOfCaption(caption: string): CombinationKey[] {
  const subject = caption.replace(/ (on|against|in front of) a (plain )?\w+ background.*$/, "");
  const items = [...subject.matchAll(phrase)].map(([, number, colour, name]) => ({
    count: number === undefined ? 1 : NUMBERS[number]!, colour, object: objectByName.get(name!)!,
  }));
  const keys = items.flatMap<CombinationKey>(({ count, colour, object }) => [
    ...(colour === undefined ? [] : [`colour:${object}:${colour}` as const]),
    ...(count === 1 ? [] : [`count:${object}:${count}` as const]),
  ]);
  if (items.length === 2) {
    const [first, second] = items.map(({ object }) => object);
    keys.push(`pair:${[first, second].sort().join(":")}`);
    const relation = vocabulary.relations.find(({ phrase: words }) => subject.includes(` ${words} `));
    if (relation !== undefined) keys.push(`relation:${first}:${second}:${relation.name}`);
  }
  return keys;
}

function share(keys: readonly CombinationKey[]): number {
  return keys.filter(isHeldOut).length / keys.length;
}

const colourKeys = objects.flatMap((o) => vocabulary.colours.map(({ name }): CombinationKey => `colour:${o}:${name}`));
const countKeys = objects.flatMap((o) => [2, 3, 4].map((n): CombinationKey => `count:${o}:${n}`));
const pairKeys = objects.flatMap((a, i) =>
  objects.slice(i + 1).map((b): CombinationKey => `pair:${[a, b].sort().join(":")}`));

test("no training caption names a held-out combination", () => {
  const { chapters, seed } = JSON.parse(readFileSync("libs/training/configs/cpu.json", "utf8")).scenes;
  let named = 0;
  for (let index = 0; index < 8000; index++) {
    const scene = trainingScene(seed, index, vocabulary, chapters[index % chapters.length] as SceneMix);
    const draws = new Draws(seed, index);
    for (const form of ["short", "long"] as const) {
      const caption = captionOf(scene, form, draws, vocabulary);
      const keys = keysOfCaption(caption);
      named += keys.length;
      assert.deepEqual(keys.filter(isHeldOut), [], caption);
    }
  }
  assert.ok(named > 10_000, `the scan read only ${named} combinations`);
});

test("the scan finds a held-out combination where there is one", () => {
  const key = colourKeys.find(isHeldOut)!;
  const [, object, colour] = key.split(":");
  assert.deepEqual(keysOfCaption(`a photo of a ${colour} ${object} on a black background`), [key]);
});

test("the split is the frozen one", () => {
  const heldOut = [...colourKeys, ...countKeys, ...pairKeys].filter(isHeldOut);
  const digest = createHash("sha256").update(heldOut.join("\n")).digest("hex");
  assert.equal(digest, "af301e85eb861f4afdb50f404abdd1bad8bd6ec3cdc97b0754f875c60d3d0661");
});

test("the split holds out the shares it promises", () => {
  assert.ok(Math.abs(share(colourKeys) - 0.12) < 0.04, `${share(colourKeys)}`);
  assert.ok(Math.abs(share(countKeys) - 0.15) < 0.06, `${share(countKeys)}`);
  assert.ok(Math.abs(share(pairKeys) - 0.1) < 0.02, `${share(pairKeys)}`);
});

test("every colour and count keeps most of its objects in training", () => {
  const partners = [...vocabulary.colours.map(({ name }) => name), "2", "3", "4"];
  for (const partner of partners) {
    const own = [...colourKeys, ...countKeys].filter((key) => key.endsWith(`:${partner}`));
    assert.ok(share(own) <= 0.3, `${partner}: ${share(own)}`);
  }
});
