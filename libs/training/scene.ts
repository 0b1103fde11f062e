import { openUniform, philox4x32 } from "#libs/random/philox.js";
import { combinationKeys, isHeldOut } from "./held-out.js";
import type { RelationName, Vocabulary } from "./vocabulary.js";

/** The six tasks of GenEval (arXiv 2310.11513), plus single concepts of the long tail. */
export type Task =
  | "single_object" | "colors" | "counting" | "two_object" | "position" | "color_attr" | "long_tail";

/** What one picture shows. Names are those of the vocabulary. */
export interface Scene {
  readonly task: Task;
  /** One object, or two different ones. */
  readonly items: readonly { readonly object: string; readonly colour?: string }[];
  /** How many of the one object; 1 where there are two objects. */
  readonly count: number;
  /** Where the first object lies relative to the second; only for position scenes. */
  readonly relation?: RelationName;
  readonly background: string;
  readonly style: string;
}

/** Draws addressed by (seed, index): the scene of an index does not depend on those before it. */
export class Draws {
  readonly #words = new Uint32Array(4);
  #used = 0;

  readonly #seed: number;
  readonly #index: number;

  constructor(seed: number, index: number) {
    this.#seed = seed;
    this.#index = index;
  }

  /** The next uniform number in (0, 1). */
  next(): number {
    if (this.#used % 4 === 0) philox4x32(this.#index, this.#used >>> 2, 0, 0, this.#seed, 0, this.#words);
    return openUniform(this.#words[this.#used++ % 4]!);
  }

  /** One element, all equally likely. */
  pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.next() * values.length)]!;
  }

  /** One key, likely in proportion to its weight. */
  weighted<K extends string>(weights: Readonly<Partial<Record<K, number>>>): K {
    const entries = Object.entries(weights) as [K, number][];
    let left = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [key, weight] of entries) if ((left -= weight) < 0) return key;
    return entries.at(-1)![0];
  }
}

/** Which part of the vocabulary the scenes use, and how often each task and style comes. */
export interface SceneMix {
  readonly tasks: Readonly<Partial<Record<Task, number>>>;
  readonly styles: Readonly<Record<string, number>>;
}

/** True when every object can be told apart from its background. */
export function isLegible(scene: Scene): boolean {
  return scene.items.every((item) => item.colour !== scene.background);
}

function proposeScene(draws: Draws, vocabulary: Vocabulary, mix: SceneMix): Scene {
  const task = draws.weighted(mix.tasks);
  const style = draws.weighted(mix.styles);
  const background = draws.next() < 0.4 ? "white" : draws.pick(vocabulary.backgrounds).name;
  const object = () => draws.pick(vocabulary.objects).noun;
  const colour = () => draws.pick(vocabulary.colours).name;
  const base = { task, style, background, count: 1 };
  switch (task) {
    case "single_object":
      return { ...base, items: [{ object: object() }] };
    case "colors":
      return { ...base, items: [{ object: object(), colour: colour() }] };
    case "counting": {
      const item = draws.next() < 0.5 ? { object: object() } : { object: object(), colour: colour() };
      return { ...base, items: [item], count: 2 + Math.floor(draws.next() * 3) };
    }
    case "two_object":
      return { ...base, items: [{ object: object() }, { object: object() }] };
    case "position": {
      const relation = draws.pick(vocabulary.relations).name;
      return { ...base, items: [{ object: object() }, { object: object() }], relation };
    }
    case "color_attr":
      return { ...base, items: [{ object: object(), colour: colour() }, { object: object(), colour: colour() }] };
    case "long_tail":
      return { ...base, items: [{ object: draws.pick(vocabulary.longTail).noun }] };
  }
}

/**
 * Scene number `index` of the training stream: drawn again until it is legible and holds no held-out combination.
 * @param seed the stream's seed, 32 bits.
 */
export function trainingScene(seed: number, index: number, vocabulary: Vocabulary, mix: SceneMix): Scene {
  const draws = new Draws(seed, index);
  for (;;) {
    const scene = proposeScene(draws, vocabulary, mix);
    const [first, second] = scene.items;
    if (first!.object === second?.object || !isLegible(scene)) continue;
    if (!combinationKeys(scene).some(isHeldOut)) return scene;
  }
}
