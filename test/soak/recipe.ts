import { Priority } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import type { Dice } from "#test/doubles/fuzz.js";
import type { ImageRequest } from "#test/doubles/start-stack.js";

/** A generation as it is sent. */
export type Generation = Exclude<NonNullable<ImageRequest["generation"]>, { readonly $typeName: string }>;

/** What fixes the tokens of some images. */
export interface Recipe {
  readonly generation: Generation;
  readonly imageCount: number;
}

/** A recipe and what nobody has disturbed made of it. */
export interface Reference extends Recipe {
  /** Of each image. */
  readonly digests: readonly string[];
  /** Of each image. */
  readonly tokens: readonly (readonly number[])[];
}

const WORDS = ["red", "apple", "two", "stars", "on", "a", "hill", "blue", "dog", "left", "of", "three", "green", "cats"];
const MAX_WORDS = 9;
const MAX_IMAGES = 4;

const text = (dice: Dice, maxWords: number) => Array.from({ length: 1 + dice.roll(maxWords) }, () => dice.pick(WORDS)).join(" ");

/** Some images of random prompts, lengths and settings. */
export function randomRecipe(dice: Dice): Recipe {
  const imageCount = 1 + dice.roll(MAX_IMAGES);
  const guidanceScale = dice.pick([1, 1.5, 3, 6]);
  return {
    imageCount,
    generation: {
      prompt: text(dice, MAX_WORDS), imageCount, seed: BigInt(dice.roll(2 ** 31)), guidanceScale,
      // Without guidance there is nothing that it could steer.
      ...(guidanceScale > 1 && dice.roll(3) === 0 && { negativePrompt: text(dice, MAX_WORDS) }),
      sampling: { temperature: dice.pick([0, 0.7, 1, 1.3]), topK: dice.pick([0, 0, 5, 20]), topP: dice.pick([1, 1, 0.9]), repetitionPenalty: dice.pick([1, 1, 1.2]) },
    },
  };
}

/** The same images asked for in another way: nothing that differs here may show in their tokens. */
export function variedGeneration({ generation, tokens }: Reference, dice: Dice): Generation {
  const resumed = tokens.map((all, imageIndex) => ({ imageIndex, tokens: all.slice(0, dice.roll(all.length)) }));
  return {
    ...generation,
    priority: dice.pick([Priority.LOW, Priority.NORMAL, Priority.NORMAL, Priority.HIGH]),
    speculation: { draftWindow: dice.pick([0, 0, 1, 2, 5, 16, 64]) },
    prefixes: resumed.filter(() => dice.roll(6) === 0),
  };
}
