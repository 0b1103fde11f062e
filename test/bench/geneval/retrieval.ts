import { readFileSync } from "node:fs";
import { join } from "node:path";
import { captionOf } from "#libs/training/caption.js";
import { Draws, trainingScene, type Scene, type SceneMix } from "#libs/training/scene.js";
import { TRAINING_FOLDER, type Vocabulary } from "#libs/training/vocabulary.js";

/** Training scenes that are searched. */
const SCENES = 20_000;

interface Captioned {
  readonly scene: Scene;
  readonly words: ReadonlySet<string>;
}

/**
 * The best that memory alone can do: find the training scene whose caption is most like the prompt. Likeness is the cosine of
 * word sets, rare words counting more.
 */
export class Retrieval {
  readonly #scenes: readonly Captioned[];
  readonly #byWord = new Map<string, number[]>();

  /** The first scenes of the committed recipe's training stream. */
  constructor(vocabulary: Vocabulary, root: string = process.cwd()) {
    const config = JSON.parse(readFileSync(join(root, TRAINING_FOLDER, "configs/cpu.json"), "utf8")) as
      { readonly scenes: { readonly seed: number; readonly chapters: readonly SceneMix[] } };
    const { seed, chapters } = config.scenes;
    this.#scenes = Array.from({ length: SCENES }, (_, index) => {
      const scene = trainingScene(seed, index, vocabulary, chapters[index % chapters.length]!);
      return { scene, words: wordsOf(captionOf(scene, "short", new Draws(seed, index + SCENES), vocabulary)) };
    });
    for (const [index, { words }] of this.#scenes.entries()) {
      for (const word of words) {
        const indices = this.#byWord.get(word);
        if (indices === undefined) this.#byWord.set(word, [index]);
        else indices.push(index);
      }
    }
  }

  /** The first `count` training scenes. */
  scenes(count: number): Scene[] {
    return this.#scenes.slice(0, count).map(({ scene }) => scene);
  }

  /** The training scene that a prompt is most like. */
  nearest(prompt: string): Scene {
    const asked = wordsOf(prompt);
    const shared = new Map<number, number>();
    for (const word of asked) {
      for (const index of this.#byWord.get(word) ?? []) shared.set(index, (shared.get(index) ?? 0) + this.#weight(word));
    }
    let [best, highest] = [0, -1];
    for (const [index, sum] of shared) {
      const likeness = sum / Math.sqrt(this.#length(this.#scenes[index]!.words));
      if (likeness > highest) [best, highest] = [index, likeness];
    }
    return this.#scenes[best]!.scene;
  }

  #length(words: ReadonlySet<string>): number {
    return [...words].reduce((sum, word) => sum + this.#weight(word), 0);
  }

  #weight(word: string): number {
    return Math.log((1 + SCENES) / (1 + (this.#byWord.get(word)?.length ?? 0))) ** 2;
  }
}

function wordsOf(text: string): Set<string> {
  return new Set(text.toLowerCase().split(/[^a-z0-9]+/).filter((word) => word !== ""));
}
