import { Draws } from "#libs/training/scene.js";
import { TASKS, type GenevalTask } from "./prompts.js";

/** How many of the pictures of one prompt are correct. */
export interface PromptResult {
  readonly tag: GenevalTask;
  readonly images: number;
  readonly correct: number;
}

/** GenEval's scores, each 0 .. 1; a task without prompts has none. */
export interface Scores extends Readonly<Partial<Record<GenevalTask, number>>> {
  /** The mean of the tasks' scores, each task counting the same. */
  readonly overall: number;
  /** The middle 95 % of `overall` when the prompts of each task are drawn again with replacement. */
  readonly interval: readonly [low: number, high: number];
}

const RESAMPLES = 1000;
const SEED = 7;

/** The share of correct pictures in each task, and GenEval's mean over tasks. */
export function scoresOf(results: readonly PromptResult[]): Scores {
  const byTask = TASKS.map((task) => results.filter(({ tag }) => tag === task)).filter((all) => all.length > 0);
  const tasks = Object.fromEntries(byTask.map((all) => [all[0]!.tag, shareOf(all)]));
  const draws = new Draws(SEED, 0);
  const means = Array.from({ length: RESAMPLES }, () => (
    mean(byTask.map((all) => shareOf(all.map(() => draws.pick(all)))))
  )).sort((a, b) => a - b);
  const at = (share: number) => means[Math.round(share * (RESAMPLES - 1))]!;
  return { overall: mean(byTask.map(shareOf)), ...tasks, interval: [at(0.025), at(0.975)] };
}

function shareOf(results: readonly PromptResult[]): number {
  const sum = (key: "images" | "correct") => results.reduce((total, result) => total + result[key], 0);
  return sum("correct") / sum("images");
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((a, b) => a + b, 0) / values.length;
}
