import assert from "node:assert/strict";
import { test } from "node:test";
import { kappaOf } from "./jury.js";
import { scoresOf } from "./score.js";

test("a task's score is the share of correct pictures, the overall one the mean over tasks", () => {
  const scores = scoresOf([
    { tag: "counting", images: 4, correct: 4 }, { tag: "counting", images: 4, correct: 0 }, { tag: "colors", images: 4, correct: 1 },
  ]);
  assert.equal(scores.counting, 0.5);
  assert.equal(scores.colors, 0.25);
  assert.equal(scores.overall, 0.375);
  assert.equal(scores.position, undefined);
});

test("the interval shrinks with more prompts and holds the score", () => {
  const many = (prompts: number) => scoresOf(Array.from({ length: prompts }, (_, i) => ({ tag: "colors", images: 4, correct: i % 5 })));
  const [few, lots] = [many(20), many(500)];
  assert.ok(few.interval[0] < few.overall && few.overall < few.interval[1]);
  assert.ok(lots.interval[1] - lots.interval[0] < (few.interval[1] - few.interval[0]) / 3);
  assert.deepEqual(many(20).interval, few.interval);
});

test("kappa is 1 for judges that agree, 0 for those that agree by chance", () => {
  const verdicts = (pairs: readonly (readonly [boolean, boolean])[]) => pairs.map(([detector, template]) => ({ detector, template }));
  assert.equal(kappaOf(verdicts([[true, true], [false, false]])), 1);
  assert.equal(kappaOf(verdicts([[true, true], [true, false], [false, true], [false, false]])), 0);
  assert.equal(kappaOf(verdicts([[true, false], [false, true]])), -1);
  assert.equal(kappaOf(verdicts([[false, false]])), undefined);
});
