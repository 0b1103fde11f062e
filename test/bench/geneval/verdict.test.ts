import assert from "node:assert/strict";
import { test } from "node:test";
import { withoutRepeats, type Box, type Detection } from "./detector.js";
import { isCorrect, positionsOf } from "./verdict.js";

const box = (left: number, top: number, size = 20): Box => [left, top, left + size, top + size];
const seen = (object: string | undefined, place: Box, colour = "red"): Detection => ({ object, colour, box: place, confidence: 0.9 });

test("positions follow GenEval's rule: the way between centres, shrunk, mostly in one direction", () => {
  assert.deepEqual([...positionsOf(box(0, 40), box(50, 40))], ["left of"]);
  assert.deepEqual([...positionsOf(box(50, 40), box(0, 40))], ["right of"]);
  assert.deepEqual([...positionsOf(box(40, 0), box(40, 50))], ["above"]);
  assert.deepEqual([...positionsOf(box(40, 50), box(40, 0))], ["below"]);
  assert.deepEqual([...positionsOf(box(0, 0), box(50, 50))], ["left of", "above"]);
  // 4 pixels apart, both boxes 20 wide: 0.1 x 40 takes all of it.
  assert.deepEqual([...positionsOf(box(0, 40), box(4, 40))], []);
  assert.deepEqual([...positionsOf(box(0, 40), box(5, 40))], ["left of"]);
});

test("exactly the objects asked for, and no others", () => {
  const two = { include: [{ class: "dog", count: 2 }] };
  assert.ok(isCorrect(two, [seen("dog", box(0, 0)), seen("dog", box(50, 0))]));
  assert.ok(!isCorrect(two, [seen("dog", box(0, 0))]));
  assert.ok(!isCorrect(two, [seen("dog", box(0, 0)), seen("dog", box(50, 0)), seen("dog", box(0, 50))]));
  assert.ok(!isCorrect(two, [seen("dog", box(0, 0)), seen("dog", box(50, 0)), seen("key", box(0, 50))]));
  assert.ok(!isCorrect(two, [seen("dog", box(0, 0)), seen("dog", box(50, 0)), seen(undefined, box(0, 50))]));
  assert.ok(!isCorrect(two, [seen("dog", box(0, 0)), seen(undefined, box(50, 0))]));
});

test("each object in its own colour", () => {
  const prompt = { include: [{ class: "dog", count: 1, color: "red" }, { class: "key", count: 1, color: "blue" }] };
  assert.ok(isCorrect(prompt, [seen("dog", box(0, 0), "red"), seen("key", box(50, 0), "blue")]));
  assert.ok(!isCorrect(prompt, [seen("dog", box(0, 0), "blue"), seen("key", box(50, 0), "red")]));
  assert.ok(!isCorrect(prompt, [seen("dog", box(0, 0), "red"), seen("key", box(50, 0), "blue")], () => false));
});

test("the later clause lies as asked of the earlier one", () => {
  const prompt = { include: [{ class: "dog", count: 1 }, { class: "key", count: 1, position: ["left of", 0] as const }] };
  assert.ok(isCorrect(prompt, [seen("dog", box(60, 30)), seen("key", box(0, 30))]));
  assert.ok(!isCorrect(prompt, [seen("dog", box(0, 30)), seen("key", box(60, 30))]));
});

test("two boxes on one object count once, the surer one", () => {
  const found = withoutRepeats([{ ...seen("dog", box(0, 0)), confidence: 0.6 }, seen("cat", box(3, 3)), seen("dog", box(50, 0))]);
  assert.deepEqual(found.map(({ object }) => object), ["cat", "dog"]);
});
