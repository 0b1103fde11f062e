import assert from "node:assert/strict";
import { test } from "node:test";
import { kappaOf } from "./jury.js";
import { differenceOf, scoresOf, type PromptResult } from "./score.js";

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

test("each task has an interval of its own, wider where it has fewer prompts", () => {
  const some = (tag: "colors" | "counting", prompts: number) => Array.from({ length: prompts }, (_, i) => ({ tag, images: 4, correct: i % 5 }));
  const { intervals } = scoresOf([...some("colors", 20), ...some("counting", 500)]);
  const [colors, counting] = [intervals.colors!, intervals.counting!];
  assert.ok(colors[1] - colors[0] > 3 * (counting[1] - counting[0]));
  assert.ok(counting[0] < 0.5 && 0.5 < counting[1]);
});

test("a difference is told from chance by the same prompts, and equal models have none", () => {
  const results = (correct: (i: number) => number): PromptResult[] => (
    Array.from({ length: 100 }, (_, i) => ({ tag: "colors", images: 4, correct: correct(i) }))
  );
  const [first, better] = [results((i) => i % 4), results((i) => (i % 4) + Number(i % 5 === 0))];
  const { overall, interval } = differenceOf(first, better);
  assert.ok(Math.abs(overall - 0.05) < 1e-9 && interval[0] > 0.02 && interval[1] < 0.08, `${interval}`);
  // The scores' own intervals overlap widely: only the pairs tell.
  assert.ok(scoresOf(better).interval[0] < scoresOf(first).interval[1]);
  assert.deepEqual(differenceOf(first, first), { overall: 0, interval: [0, 0] });
  // The control: models of equal strength whose prompts have nothing in common cannot be told apart.
  const chance = differenceOf(results((i) => i % 5), results((i) => (i * 7 + 3) % 5)).interval;
  assert.ok(chance[0] < 0 && chance[1] > 0, `${chance}`);
});

test("kappa is 1 for judges that agree, 0 for those that agree by chance", () => {
  const verdicts = (pairs: readonly (readonly [boolean, boolean])[]) => pairs.map(([detector, template]) => ({ detector, template }));
  assert.equal(kappaOf(verdicts([[true, true], [false, false]])), 1);
  assert.equal(kappaOf(verdicts([[true, true], [true, false], [false, true], [false, false]])), 0);
  assert.equal(kappaOf(verdicts([[true, false], [false, true]])), -1);
  assert.equal(kappaOf(verdicts([[false, false]])), undefined);
});
