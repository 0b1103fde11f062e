import type { Box } from "./detector.js";
import { SIDE, type Picture } from "./picture.js";

/** Components 0 .. 255. */
export type Rgb = readonly [red: number, green: number, blue: number];

/** Bounds of hue in degrees (negative ones lie left of red), saturation and value, each 0 .. 1. */
interface Range {
  readonly hue?: readonly [number, number];
  readonly saturation: readonly [number, number];
  readonly value: readonly [number, number];
}

/** What the middle pixel of a repainted object may look like; renders fill a third of each range (measured). */
const RANGES: Readonly<Record<string, Range>> = {
  red: { hue: [-15, 14], saturation: [0.5, 1], value: [0.45, 1] },
  orange: { hue: [17, 39], saturation: [0.5, 1], value: [0.66, 1] },
  yellow: { hue: [40, 62], saturation: [0.45, 1], value: [0.66, 1] },
  green: { hue: [90, 160], saturation: [0.3, 1], value: [0.3, 0.85] },
  blue: { hue: [200, 240], saturation: [0.4, 1], value: [0.45, 1] },
  purple: { hue: [255, 295], saturation: [0.3, 1], value: [0.4, 0.95] },
  pink: { hue: [310, 346], saturation: [0.22, 0.65], value: [0.66, 1] },
  brown: { hue: [12, 40], saturation: [0.25, 0.8], value: [0.25, 0.68] },
  black: { saturation: [0, 0.4], value: [0, 0.45] },
  white: { saturation: [0, 0.22], value: [0.66, 1] },
};
/** Sum of the differences of a pixel's components that makes it differ from the background. */
const MIN_DIFFERENCE = 48;

/** The colour of most of the picture's edge. */
export function backgroundOf(picture: Picture): Rgb {
  const edge = Array.from({ length: SIDE }, (_, i) => [i, (SIDE - 1) * SIDE + i, i * SIDE, i * SIDE + SIDE - 1]).flat();
  return middleOf(picture, edge);
}

/** The middle colour of what differs from the background inside a box; the background where nothing does. */
export function colourInside(picture: Picture, box: Box, background: Rgb): Rgb {
  const [left, top, right, bottom] = box.map((edge) => Math.min(SIDE, Math.max(0, Math.round(edge)))) as [number, number, number, number];
  const pixels: number[] = [];
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const at = y * SIDE + x;
      const difference = background.reduce((sum, value, c) => sum + Math.abs(picture[at * 3 + c]! - value), 0);
      if (difference > MIN_DIFFERENCE) pixels.push(at);
    }
  }
  return pixels.length === 0 ? background : middleOf(picture, pixels);
}

/** Whether a colour is one that `name` stands for. */
export function isNamed(rgb: Rgb, name: string): boolean {
  const [hue, saturation, value] = hsvOf(rgb);
  const range = RANGES[name]!;
  const isWithin = (x: number, [low, high]: readonly [number, number]) => x >= low && x <= high;
  const isHue = range.hue === undefined || isWithin(hue, range.hue) || isWithin(hue - 360, range.hue);
  return isHue && isWithin(saturation, range.saturation) && isWithin(value, range.value);
}

function middleOf(picture: Picture, pixels: readonly number[]): Rgb {
  const middle = (c: number) => pixels.map((at) => picture[at * 3 + c]!).sort((a, b) => a - b)[pixels.length >> 1]!;
  return [middle(0), middle(1), middle(2)];
}

function hsvOf([red, green, blue]: Rgb): readonly [hue: number, saturation: number, value: number] {
  const [most, least] = [Math.max(red, green, blue), Math.min(red, green, blue)];
  const spread = most - least;
  const sixth = spread === 0 ? 0
    : most === red ? ((green - blue) / spread + 6) % 6
    : most === green ? (blue - red) / spread + 2 : (red - green) / spread + 4;
  return [sixth * 60, spread / Math.max(1, most), most / 255];
}
