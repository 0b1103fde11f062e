import { combinationKeys, isHeldOut } from "./held-out.js";
import { isLegible, type Draws, type Scene } from "./scene.js";
import type { RelationName, Vocabulary } from "./vocabulary.js";

/** In what an altered scene differs: one thing that one of GenEval's tasks asks about. */
export const ALTERATIONS = ["object", "colour", "count", "relation", "swap"] as const;
export type Alteration = (typeof ALTERATIONS)[number];

const OPPOSITES: Readonly<Record<RelationName, RelationName>> = { left: "right", right: "left", above: "below", below: "above" };

/**
 * The scene with one thing changed so that its caption is false of the picture: another object, another colour, another
 * number, another relation, or objects or colours that have changed places.
 * @returns undefined where the scene has no such thing. Never a scene with a held-out combination: what learns from false
 * captions must not learn that those are always false.
 */
export function alteredScene(scene: Scene, alteration: Alteration, draws: Draws, vocabulary: Vocabulary): Scene | undefined {
  for (let tries = 0; tries < 20; tries++) {
    const altered = proposal(scene, alteration, draws, vocabulary);
    if (altered === undefined) return undefined;
    const [first, second] = altered.items;
    if (first!.object === second?.object || !isLegible(altered) || combinationKeys(altered).some(isHeldOut)) continue;
    if (JSON.stringify(altered) !== JSON.stringify(scene)) return altered;
  }
  return undefined;
}

function proposal(scene: Scene, alteration: Alteration, draws: Draws, vocabulary: Vocabulary): Scene | undefined {
  const { items, relation } = scene;
  const place = Math.floor(draws.next() * items.length);
  const withItem = (change: Partial<Scene["items"][number]>) => (
    { ...scene, items: items.map((item, at) => (at === place ? { ...item, ...change } : item)) }
  );
  switch (alteration) {
    case "object":
      return withItem({ object: draws.pick(vocabulary.objects).noun });
    case "colour":
      return items[place]!.colour === undefined ? undefined : withItem({ colour: draws.pick(vocabulary.colours).name });
    case "count":
      return scene.task === "counting" ? { ...scene, count: 2 + Math.floor(draws.next() * 3) } : undefined;
    case "relation":
      return relation && { ...scene, relation: draws.pick(vocabulary.relations).name };
    case "swap":
      return swapped(scene);
  }
}

/** Colours change owners; objects of a relation change sides, which is said by the opposite relation. */
function swapped(scene: Scene): Scene | undefined {
  const [first, second] = scene.items;
  if (second === undefined) return undefined;
  if (scene.relation !== undefined) return { ...scene, relation: OPPOSITES[scene.relation] };
  if (first!.colour === undefined || second.colour === undefined || first!.colour === second.colour) return undefined;
  return { ...scene, items: [{ ...first!, colour: second.colour }, { ...second, colour: first!.colour }] };
}
