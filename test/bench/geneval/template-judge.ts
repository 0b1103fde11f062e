import { tightBox, type Sprite } from "#libs/training/icons.js";
import { recolour } from "#libs/training/render.js";
import { backgroundOf, colourInside, isNamed, type Rgb } from "./colour.js";
import type { Box, Detection } from "./detector.js";
import { SIDE, type Picture } from "./picture.js";
import { ATLAS_STYLES, type Atlas } from "./renders.js";

/** Side of the stretched drawings that are compared, in pixels. */
const PATCH = 20;
const PATCH_VALUES = PATCH * PATCH * 3;
/** How the box that the detector drew is moved (pixels) and scaled before it is compared. */
const SHIFTS = [-2, 0, 2] as const;
const SCALES = [0.9, 1, 1.1] as const;
/** Templates that are compared at every shift and scale: those that fit best without. */
const FINALISTS = 12;
/** Both fixed on renders and controls before any generator was scored. */
const MIN_CORRELATION = 0.6;
const MIN_MARGIN = 0.02;

/** One icon cut to what is drawn and stretched to `PATCH`, so that it can be laid on any background by arithmetic. */
interface Template {
  readonly object: string;
  /** `[PATCH, PATCH, 3]`: colour times opacity. */
  readonly ink: Float32Array;
  /** `[PATCH, PATCH]`: how much of the background shows. */
  readonly gaps: Float32Array;
}

/**
 * The second judge, which has learned nothing: it names an object after the icon that correlates best with the pixels in
 * its box, and a colour by the hue of its middle pixel. It only borrows the first judge's boxes.
 */
export class TemplateJudge {
  /** By colour; "" for the objects' own colours. */
  readonly #templates: ReadonlyMap<string, readonly Template[]>;
  readonly #colours: readonly string[];

  constructor(atlas: Atlas) {
    const { objects, colours } = atlas.vocabulary;
    this.#colours = colours.map(({ name }) => name);
    this.#templates = new Map(["", ...this.#colours].map((name) => [name, ATLAS_STYLES.flatMap((style) => objects.map(({ noun }) => {
      const plain = atlas.icon(noun, style, 48);
      return templateOf(noun, name === "" ? plain : recolour(plain, atlas.colour(name)));
    }))]));
  }

  /** The same objects as this judge names them. */
  rename(picture: Picture, detections: readonly Detection[]): Detection[] {
    const background = backgroundOf(picture);
    return detections.map((detection) => {
      const rgb = colourInside(picture, detection.box, background);
      const colour = this.#colours.find((name) => isNamed(rgb, name));
      const templates = [...this.#templates.get("")!, ...(colour === undefined ? [] : this.#templates.get(colour)!)];
      return { ...detection, object: nameOf(picture, detection.box, background, templates), colour: colour ?? "" };
    });
  }
}

function nameOf(picture: Picture, box: Box, background: Rgb, templates: readonly Template[]): string | undefined {
  const whole = patchOf(picture, box);
  const finalists = templates.map((template) => ({ template, fit: correlation(whole, template, background) }))
    .sort((a, b) => b.fit - a.fit).slice(0, FINALISTS).map(({ template }) => template);
  const patches = SCALES.flatMap((scale) => SHIFTS.flatMap((x) => SHIFTS.map((y) => patchOf(picture, moved(box, scale, x, y)))));
  const best = new Map<string, number>();
  for (const template of finalists) {
    const fit = Math.max(...patches.map((patch) => correlation(patch, template, background)));
    best.set(template.object, Math.max(fit, best.get(template.object) ?? -1));
  }
  const [first, second] = [...best].sort((a, b) => b[1] - a[1]);
  const isSure = first![1] >= MIN_CORRELATION && first![1] - (second?.[1] ?? 0) >= MIN_MARGIN;
  return isSure ? first![0] : undefined;
}

function templateOf(object: string, sprite: Sprite): Template {
  const box = tightBox(sprite);
  const { size, rgba } = sprite;
  const opaque = stretched(box, Float32Array.from({ length: size * size }, (_, i) => rgba[i * 4 + 3]! / 255), size, 1);
  const colours = stretched(box, Float32Array.from({ length: size * size * 3 }, (_, i) => (
    rgba[Math.floor(i / 3) * 4 + (i % 3)]! * rgba[Math.floor(i / 3) * 4 + 3]! / 255
  )), size, 3);
  return { object, ink: colours, gaps: opaque.map((alpha) => 1 - alpha) };
}

/** Pearson's correlation of a patch (mean 0, length 1) with a template laid on a background. */
function correlation(patch: Float32Array, { ink, gaps }: Template, background: Rgb): number {
  let [shared, sum, squares] = [0, 0, 0];
  for (let i = 0; i < PATCH_VALUES; i += 3) {
    const gap = gaps[i / 3]!;
    for (let c = 0; c < 3; c++) {
      const value = ink[i + c]! + gap * background[c]!;
      shared += patch[i + c]! * value;
      sum += value;
      squares += value * value;
    }
  }
  return shared / Math.sqrt(Math.max(squares - (sum * sum) / PATCH_VALUES, 1e-6));
}

/** What a picture shows in a box, with mean 0 and length 1. */
function patchOf(picture: Picture, box: Box): Float32Array {
  const values = stretched(box, picture, SIDE, 3);
  const mean = values.reduce((a, b) => a + b, 0) / PATCH_VALUES;
  const length = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0)) + 1e-6;
  return values.map((value) => (value - mean) / length);
}

/**
 * What lies in a box, resampled to `[PATCH, PATCH, channels]` between its four nearest pixels; edges repeat outwards.
 * @param pixels `[side, side, channels]`.
 */
function stretched(box: Box, pixels: ArrayLike<number>, side: number, channels: number): Float32Array {
  const inside = (v: number) => Math.min(side - 1, Math.max(0, v));
  const [xs, ys] = [0, 1].map((axis) => Array.from({ length: PATCH }, (_, i) => (
    inside(box[axis]! + ((i + 0.5) * (box[axis + 2]! - box[axis]!)) / PATCH - 0.5)
  ))) as [number[], number[]];
  const out = new Float32Array(PATCH * PATCH * channels);
  for (const [row, y] of ys.entries()) {
    for (const [column, x] of xs.entries()) {
      const [x0, y0] = [Math.floor(x), Math.floor(y)];
      const [right, down] = [inside(x0 + 1) - x0, (inside(y0 + 1) - y0) * side];
      for (let c = 0; c < channels; c++) {
        const at = (place: number) => pixels[place * channels + c]!;
        const corner = y0 * side + x0;
        const upper = at(corner) * (1 - x + x0) + at(corner + right) * (x - x0);
        const lower = at(corner + down) * (1 - x + x0) + at(corner + down + right) * (x - x0);
        out[(row * PATCH + column) * channels + c] = upper * (1 - y + y0) + lower * (y - y0);
      }
    }
  }
  return out;
}

function moved([left, top, right, bottom]: Box, scale: number, x: number, y: number): Box {
  const [width, height] = [((right - left) * scale) / 2, ((bottom - top) * scale) / 2];
  const [middle, centre] = [(left + right) / 2 + x, (top + bottom) / 2 + y];
  return [middle - width, centre - height, middle + width, centre + height];
}
