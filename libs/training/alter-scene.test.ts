import assert from "node:assert/strict";
import { test } from "node:test";
import { ALTERATIONS, alteredScene } from "./alter-scene.js";
import { combinationKeys, isHeldOut } from "./held-out.js";
import { Draws, isLegible, trainingScene, type Scene } from "./scene.js";
import { readVocabulary } from "./vocabulary.js";

const vocabulary = readVocabulary();
const mix = { tasks: { single_object: 1, colors: 1, counting: 1, two_object: 1, position: 1, color_attr: 1 }, styles: { shaded: 1 } };
const base = { background: "white", style: "shaded", count: 1 };

test("an altered scene differs, could be a training scene, and holds no held-out combination", () => {
  let altered = 0;
  for (let index = 0; index < 3000; index++) {
    const scene = trainingScene(5, index, vocabulary, mix);
    for (const alteration of ALTERATIONS) {
      const other = alteredScene(scene, alteration, new Draws(6, index), vocabulary);
      if (other === undefined) continue;
      altered++;
      assert.notDeepEqual(other, scene);
      assert.ok(isLegible(other) && !combinationKeys(other).some(isHeldOut), JSON.stringify(other));
      assert.deepEqual([other.task, other.items.length, other.background], [scene.task, scene.items.length, scene.background]);
    }
  }
  assert.ok(altered > 5000, `${altered}`);
});

test("colours change owners, and what lay left lies right", () => {
  const attributes: Scene = { ...base, task: "color_attr", items: [{ object: "dog", colour: "red" }, { object: "cat", colour: "blue" }] };
  const swapped = alteredScene(attributes, "swap", new Draws(1, 1), vocabulary);
  assert.deepEqual(swapped?.items, [{ object: "dog", colour: "blue" }, { object: "cat", colour: "red" }]);
  const position: Scene = { ...base, task: "position", items: [{ object: "dog" }, { object: "cat" }], relation: "left" };
  assert.equal(alteredScene(position, "swap", new Draws(1, 1), vocabulary)?.relation, "right");
});

test("what a scene does not say cannot be altered", () => {
  const scene: Scene = { ...base, task: "single_object", items: [{ object: "dog" }] };
  for (const alteration of ["colour", "count", "relation", "swap"] as const) {
    assert.equal(alteredScene(scene, alteration, new Draws(1, 1), vocabulary), undefined);
  }
});
