import { Draws, type Scene } from "#libs/training/scene.js";
import { CONTROLS } from "./controls.js";
import type { Picture } from "./picture.js";
import type { PromptedScene } from "./prompts.js";
import { variantOf, type Atlas } from "./renders.js";

/** Seeds that no training used. */
const RENDER_SEED = 0x0e5a1;
const CONTROL_SEED = 0x0c0de;

/** How far renders move each object from its place in training scenes, in pixels. */
const MAX_SHIFT = 3;

/**
 * A fresh render of the scene that a prompt asks for.
 * @param shift how far objects may lie from their place in training scenes, in pixels: a codec that knows only those
 * places is asked for no others.
 */
export function renderOf({ scene, index }: PromptedScene, image: number, atlas: Atlas, shift = MAX_SHIFT): Picture {
  const draws = new Draws(RENDER_SEED + image, index);
  return atlas.draw(variantOf(scene, draws, atlas.vocabulary), draws, shift);
}

/** One of the pictures that no judge may accept, made for the prompt at `place` of the prompts. */
export async function controlOf(
  name: string, prompts: readonly PromptedScene[], place: number, image: number, atlas: Atlas,
): Promise<Picture> {
  const { scene, index } = prompts[place]!;
  const draws = new Draws(CONTROL_SEED + image, index);
  const [own, other] = [scene, otherScene(prompts, place, image)].map((one) => variantOf(one, draws, atlas.vocabulary));
  return CONTROLS[name]!({ atlas, scene: own!, other: other!, draws });
}

/** The scene of another prompt of the same task. */
function otherScene(prompts: readonly PromptedScene[], place: number, image: number): Scene {
  return prompts[otherPlace(prompts, place, image)]!.scene;
}

/** The place of another prompt of the same task, a different one for each image. */
export function otherPlace(prompts: readonly PromptedScene[], place: number, image: number): number {
  const { tag } = prompts[place]!.prompt;
  const same = prompts.flatMap(({ prompt }, at) => (prompt.tag === tag ? [at] : []));
  const step = 1 + ((16 + image) % Math.max(1, same.length - 1));
  return same[(same.indexOf(place) + step) % same.length]!;
}
