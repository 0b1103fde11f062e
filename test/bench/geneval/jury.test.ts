import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { OnnxSession } from "#libs/onnx/session.js";
import { readVocabulary } from "#libs/training/vocabulary.js";
import { controlOf, renderOf } from "./anchors.js";
import { CONTROLS } from "./controls.js";
import { JUDGE_FOLDER } from "./detector.js";
import { Jury } from "./jury.js";
import { PICTURE_BYTES, SIDE } from "./picture.js";
import { promptsOf } from "./prompts.js";
import { Atlas } from "./renders.js";

const vocabulary = readVocabulary();
const prompts = [...promptsOf("seen", vocabulary), ...promptsOf("unseen", vocabulary)].filter((_, i) => i % 18 === 0);
const { signal } = new AbortController();
let atlas: Atlas;
let jury: Jury;

before(async () => {
  atlas = await Atlas.open(vocabulary);
  jury = await Jury.open(atlas);
});
after(() => jury.close());

test("the graph computes what the trained network computes, from bytes that nobody has prepared", async () => {
  const golden = JSON.parse(await readFile(`${JUDGE_FOLDER}golden.json`, "utf8")) as { readonly objectness: readonly number[] };
  const session = await OnnxSession.open(`${JUDGE_FOLDER}judge.onnx`, { threads: 1, provider: "cpu" });
  try {
    const data = Uint8Array.from({ length: PICTURE_BYTES }, (_, i) => (31 * Math.floor(i / 3 / SIDE) + 17 * (Math.floor(i / 3) % SIDE) + 80 * (i % 3)) % 256);
    const { objectness } = await session.run({ images: { type: "uint8", dims: [1, SIDE, SIDE, 3], data } });
    const values = objectness!.data as Float32Array;
    assert.equal(values.length, golden.objectness.length);
    const difference = golden.objectness.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i]!)), 0);
    assert.ok(difference < 2e-3, `objectness differs by ${difference}`);
  } finally {
    await session.close();
  }
});

test("real renders pass both judges", async () => {
  const { scores, template } = await jury.judge(prompts, async (place) => [renderOf(prompts[place]!, 0, atlas)], { signal });
  assert.ok(scores.overall >= 0.95, `detector ${scores.overall}`);
  assert.ok(template.overall >= 0.9, `template ${template.overall}`);
});

test("what shows no object, or others, passes hardly ever", async () => {
  for (const name of Object.keys(CONTROLS)) {
    const { verdicts } = await jury.judge(prompts, async (place) => [await controlOf(name, prompts, place, 0, atlas)], { signal });
    const passed = verdicts.flat().filter(({ detector }) => detector).length;
    assert.ok(passed <= 0.07 * prompts.length, `${name}: ${passed} of ${prompts.length}`);
  }
});
