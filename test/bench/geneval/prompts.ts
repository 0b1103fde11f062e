import { NUMBER_WORDS, withArticle } from "#libs/training/caption.js";
import { combinationKeys, isHeldOut } from "#libs/training/held-out.js";
import { Draws, isLegible, type Scene } from "#libs/training/scene.js";
import type { RelationName, Vocabulary } from "#libs/training/vocabulary.js";

/** GenEval's six tasks (arXiv 2310.11513), in the order of its reports. */
export const TASKS = ["single_object", "two_object", "counting", "colors", "position", "color_attr"] as const;
export type GenevalTask = (typeof TASKS)[number];

/** Prompts of combinations that training scenes may hold, or of those that every training scene avoids. */
export const SUITES = ["seen", "unseen"] as const;
export type Suite = (typeof SUITES)[number];

/** GenEval's words for where an object lies relative to another. */
export type Position = "left of" | "right of" | "above" | "below";

/** A clause of GenEval's metadata: so many objects of a class, maybe in a colour, maybe lying so relative to clause number `i`. */
export interface Clause {
  readonly class: string;
  readonly count: number;
  readonly color?: string;
  readonly position?: readonly [Position, number];
}

/** One line of GenEval's `evaluation_metadata.jsonl`. */
export interface GenevalPrompt {
  readonly tag: GenevalTask;
  readonly include: readonly Clause[];
  readonly exclude?: readonly Clause[];
  readonly prompt: string;
}

/** As many of each task as GenEval has: 553. */
const PROMPTS_OF_TASK: Readonly<Record<GenevalTask, number>> = {
  single_object: 80, two_object: 99, counting: 80, colors: 94, position: 100, color_attr: 100,
};
/** How often each number comes among the counting prompts, as in GenEval. */
const PROMPTS_OF_COUNT: Readonly<Record<number, number>> = { 2: 26, 3: 28, 4: 26 };
/** GenEval's own wording; the others only where a suite has fewer combinations than prompts. */
const PREFIXES = ["a photo of", "a picture of", "an image of", "a drawing of"] as const;
/** Draws before the next wording: enough to meet every combination of a task but those of two objects. */
const TRIES_OF_WORDING = 8_000;
const POSITIONS: Readonly<Record<RelationName, Position>> = { left: "left of", right: "right of", above: "above", below: "below" };
const SEEDS: Readonly<Record<Suite, number>> = { seen: 43, unseen: 44 };

/** A prompt and what a picture of it shows; the scene's own background is the one that the prompt names or implies. */
export interface PromptedScene {
  /** Its place in the suite. */
  readonly index: number;
  readonly prompt: GenevalPrompt;
  readonly scene: Scene;
}

/** The 553 prompts of a suite, always the same. */
export function promptsOf(suite: Suite, vocabulary: Vocabulary): PromptedScene[] {
  const drawn = TASKS.flatMap((task, stream) => {
    if (task !== "counting") return drawPrompts(task, PROMPTS_OF_TASK[task], suite, stream, vocabulary);
    return Object.entries(PROMPTS_OF_COUNT).flatMap(([count, prompts]) => (
      drawPrompts(task, prompts, suite, 100 + Number(count), vocabulary, Number(count))
    ));
  });
  return drawn.map((prompted, index) => ({ index, ...prompted }));
}

function drawPrompts(
  task: GenevalTask, total: number, suite: Suite, stream: number, vocabulary: Vocabulary, count = 1,
): Omit<PromptedScene, "index">[] {
  if (task === "single_object") return vocabulary.objects.map(({ noun }) => singleObject(noun, vocabulary));
  const draws = new Draws(SEEDS[suite], stream);
  const found = new Map<string, Omit<PromptedScene, "index">>();
  for (let tries = 0; found.size < total; tries++) {
    const scene = proposeScene(task, count, draws, vocabulary);
    if (scene.items[0]!.object === scene.items[1]?.object || !isLegible(scene)) continue;
    const isUnseen = combinationKeys(scene).some(isHeldOut);
    if (isUnseen !== (suite === "unseen")) continue;
    // Where combinations run out, the same ones come again in other words.
    const prefix = PREFIXES[Math.min(PREFIXES.length - 1, Math.floor(tries / TRIES_OF_WORDING))]!;
    const prompt = promptOf(scene, prefix, vocabulary);
    if (!found.has(prompt.prompt)) found.set(prompt.prompt, { prompt, scene });
  }
  return [...found.values()];
}

function singleObject(object: string, vocabulary: Vocabulary): Omit<PromptedScene, "index"> {
  const scene: Scene = { task: "single_object", items: [{ object }], count: 1, background: "white", style: "shaded" };
  return { prompt: promptOf(scene, PREFIXES[0], vocabulary), scene };
}

function proposeScene(task: GenevalTask, count: number, draws: Draws, vocabulary: Vocabulary): Scene {
  const object = () => draws.pick(vocabulary.objects).noun;
  const colour = () => draws.pick(vocabulary.colours).name;
  const base = { task, style: "shaded", background: "white", count };
  switch (task) {
    case "single_object":
    case "counting":
      return { ...base, items: [{ object: object() }] };
    case "two_object":
      return { ...base, items: [{ object: object() }, { object: object() }] };
    case "position":
      return { ...base, items: [{ object: object() }, { object: object() }], relation: draws.pick(vocabulary.relations).name };
    case "colors":
    case "color_attr": {
      const items = Array.from({ length: task === "colors" ? 1 : 2 }, () => ({ object: object(), colour: colour() }));
      // White things would not show on the white that a prompt implies, so those prompts name a background.
      const isWhite = items.some((item) => item.colour === "white");
      return { ...base, items, background: isWhite ? draws.pick(vocabulary.backgrounds).name : "white" };
    }
  }
}

function promptOf(scene: Scene, prefix: string, vocabulary: Vocabulary): GenevalPrompt {
  const { task: tag, items, count, relation, background } = scene;
  const clauses = items.map(({ object, colour }) => ({ class: object, count, ...(colour && { color: colour }) }));
  const ground = background === "white" ? "" : ` on ${withArticle(background)} background`;
  if (tag === "counting") {
    const { plural } = vocabulary.objects.find(({ noun }) => noun === items[0]!.object)!;
    const exclude = [{ class: items[0]!.object, count: count + 1 }];
    return { tag, include: clauses, exclude, prompt: `${prefix} ${NUMBER_WORDS[count]} ${plural}${ground}` } as GenevalPrompt;
  }
  const phrases = items.map(({ object, colour }) => withArticle(colour === undefined ? object : `${colour} ${object}`));
  if (relation === undefined) return { tag, include: clauses, prompt: `${prefix} ${phrases.join(" and ")}${ground}` } as GenevalPrompt;
  const { phrase } = vocabulary.relations.find(({ name }) => name === relation)!;
  // GenEval names the thing that others are placed by first.
  const include = [clauses[1]!, { ...clauses[0]!, position: [POSITIONS[relation], 0] as const }];
  return { tag, include, prompt: `${prefix} ${phrases[0]} ${phrase} ${phrases[1]}${ground}` } as GenevalPrompt;
}
