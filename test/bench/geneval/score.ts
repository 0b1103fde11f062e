import { Draws } from "#libs/training/scene.js";
import { TASKS, type GenevalTask } from "./prompts.js";

/** How many of the pictures of one prompt are correct. */
export interface PromptResult {
  readonly tag: GenevalTask;
  readonly images: number;
  readonly correct: number;
}

/** The middle 95 % of a number when the prompts of each task are drawn again with replacement. */
export type Interval = readonly [low: number, high: number];

/** GenEval's scores, each 0 .. 1; a task without prompts has none. */
export interface Scores extends Readonly<Partial<Record<GenevalTask, number>>> {
  /** The mean of the tasks' scores, each task counting the same. */
  readonly overall: number;
  /** Of `overall`. */
  readonly interval: Interval;
  /** Of each task's score. */
  readonly intervals: Readonly<Partial<Record<GenevalTask, Interval>>>;
}

/** How far one model's overall score lies above another's. */
export interface Difference {
  readonly overall: number;
  /** Of the difference, the same prompts drawn for both: 0 inside it means that they cannot be told apart. */
  readonly interval: Interval;
}

const RESAMPLES = 1000;
const SEED = 7;

/** The share of correct pictures in each task, and GenEval's mean over tasks. */
export function scoresOf(results: readonly PromptResult[]): Scores {
  const byTask = groupsOf(results, ({ tag }) => tag);
  const again = resampled(byTask, shareOf);
  const named = <T>(values: readonly T[]) => Object.fromEntries(byTask.map((all, task) => [all[0]!.tag, values[task]!]));
  return {
    overall: mean(byTask.map(shareOf)), ...named(byTask.map(shareOf)), interval: middleOf(again.map(mean)),
    intervals: named(byTask.map((_, task) => middleOf(again.map((shares) => shares[task]!)))),
  };
}

/** How much better the second model is than the first; both in the order of the same prompts. */
export function differenceOf(first: readonly PromptResult[], second: readonly PromptResult[]): Difference {
  const pairs = first.map((result, place) => [result, second[place]!] as const);
  const byTask = groupsOf(pairs, ([{ tag }]) => tag);
  const gain = (some: typeof pairs) => shareOf(some.map(([, b]) => b)) - shareOf(some.map(([a]) => a));
  return { overall: mean(byTask.map(gain)), interval: middleOf(resampled(byTask, gain).map(mean)) };
}

function groupsOf<T>(values: readonly T[], tagOf: (value: T) => GenevalTask): T[][] {
  return TASKS.map((task) => values.filter((value) => tagOf(value) === task)).filter((all) => all.length > 0);
}

/** `measure` of each group drawn again, so often that the middle of its values is known. */
function resampled<T>(groups: readonly (readonly T[])[], measure: (values: T[]) => number): number[][] {
  const draws = new Draws(SEED, 0);
  return Array.from({ length: RESAMPLES }, () => groups.map((all) => measure(all.map(() => draws.pick(all)))));
}

function middleOf(values: readonly number[]): Interval {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return [at(0.025), at(0.975)];
}

function shareOf(results: readonly PromptResult[]): number {
  const sum = (key: "images" | "correct") => results.reduce((total, result) => total + result[key], 0);
  return sum("correct") / sum("images");
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}
