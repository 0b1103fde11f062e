import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { combinationKeys, isHeldOut } from "#libs/training/held-out.js";
import { readVocabulary } from "#libs/training/vocabulary.js";
import { promptsOf, SUITES, TASKS } from "./prompts.js";

const vocabulary = readVocabulary();
const [seen, unseen] = SUITES.map((suite) => promptsOf(suite, vocabulary)) as [ReturnType<typeof promptsOf>, ReturnType<typeof promptsOf>];

test("each suite has GenEval's 553 prompts by task, all different", () => {
  for (const suite of [seen, unseen]) {
    assert.deepEqual(TASKS.map((task) => suite.filter(({ prompt }) => prompt.tag === task).length), [80, 99, 80, 94, 100, 100]);
    assert.equal(new Set(suite.map(({ prompt }) => prompt.prompt)).size, 553);
    assert.deepEqual(suite.map(({ index }) => index), suite.map((_, index) => index));
  }
});

test("no seen prompt asks for a held-out combination, and every unseen one of two parts does", () => {
  const isUnseen = ({ scene }: (typeof seen)[number]) => combinationKeys(scene).some(isHeldOut);
  assert.equal(seen.filter(isUnseen).length, 0);
  assert.equal(unseen.filter(isUnseen).length, 553 - 80);
});

test("metadata says what the words say", () => {
  const of = (tag: string) => seen.find(({ prompt }) => prompt.tag === tag)!.prompt;
  assert.deepEqual(seen[0]!.prompt, { tag: "single_object", include: [{ class: "dog", count: 1 }], prompt: "a photo of a dog" });
  const { include: [asked], exclude, prompt } = of("counting");
  assert.equal(exclude![0]!.count, asked!.count + 1);
  assert.match(prompt, /^a photo of two /);
  const placed = of("position");
  const [target, object] = placed.include;
  assert.equal(object!.position![1], 0);
  const words = { "left of": "to the left of", "right of": "to the right of", above: "above", below: "below" }[object!.position![0]];
  assert.match(placed.prompt, new RegExp(`^a photo of an? ${object!.class} ${words} an? ${target!.class}$`));
});

test("white things stand on a background that shows them", () => {
  const white = [...seen, ...unseen].filter(({ scene }) => scene.items.some(({ colour }) => colour === "white"));
  assert.ok(white.length > 20);
  for (const { prompt, scene } of white) {
    assert.notEqual(scene.background, "white");
    assert.match(prompt.prompt, new RegExp(` on an? ${scene.background} background$`));
  }
});

test("the suites are frozen: scores can be compared over time", () => {
  const digest = (suite: typeof seen) => createHash("sha256").update(JSON.stringify(suite.map(({ prompt }) => prompt))).digest("hex").slice(0, 16);
  assert.deepEqual([digest(seen), digest(unseen)], ["4153b0431e7721bf", "f50bb630cedebe96"]);
});
