import type { Sprite } from "./icons.js";
import type { Scene } from "./scene.js";
import type { NamedColour } from "./vocabulary.js";

/** Side of one codec patch in pixels: everything is placed on this grid, so equal drawings become equal tokens. */
export const CELL_PIXELS = 8;

/** Where one object goes, in cells. */
export interface Placement {
  readonly item: number;
  readonly column: number;
  readonly row: number;
  readonly cells: number;
}

/**
 * Lay a scene out on a square grid: one large object in the middle, or up to four at half the side. The layout is a
 * function of the scene alone, so a caption fixes every position.
 * @param gridCells cells along one side; a multiple of 4.
 */
export function placementsOf(scene: Scene, gridCells: number): Placement[] {
  const half = gridCells / 2;
  const middle = gridCells / 4;
  if (scene.items.length === 1 && scene.count === 1) {
    return [{ item: 0, column: 1, row: 1, cells: gridCells - 2 }];
  }
  const at = (item: number, column: number, row: number): Placement => ({ item, column, row, cells: half });
  if (scene.items.length === 2) {
    switch (scene.relation) {
      case "right": return [at(0, half, middle), at(1, 0, middle)];
      case "above": return [at(0, middle, 0), at(1, middle, half)];
      case "below": return [at(0, middle, half), at(1, middle, 0)];
      default: return [at(0, 0, middle), at(1, half, middle)];
    }
  }
  const spots: readonly (readonly [number, number])[] =
    scene.count === 2 ? [[0, middle], [half, middle]]
    : scene.count === 3 ? [[middle, 0], [0, half], [half, half]]
    : [[0, 0], [half, 0], [0, half], [half, half]];
  return spots.map(([column, row]) => at(0, column, row));
}

function luminance(red: number, green: number, blue: number): number {
  return 0.299 * red + 0.587 * green + 0.114 * blue;
}

/**
 * Repaint a drawing in one colour and keep its shading: each pixel takes the colour at the pixel's own brightness
 * relative to the drawing's mean.
 */
export function recolour(sprite: Sprite, colour: NamedColour): Sprite {
  const { rgba } = sprite;
  let sum = 0;
  let weight = 0;
  for (let i = 0; i < rgba.length; i += 4) {
    sum += luminance(rgba[i]!, rgba[i + 1]!, rgba[i + 2]!) * rgba[i + 3]!;
    weight += rgba[i + 3]!;
  }
  const mean = Math.max(sum / Math.max(weight, 1), 24);
  const out = new Uint8Array(rgba.length);
  for (let i = 0; i < rgba.length; i += 4) {
    const shade = luminance(rgba[i]!, rgba[i + 1]!, rgba[i + 2]!) / mean;
    // A floor and a ceiling keep the shape readable in very dark and very pale drawings.
    const dark = Math.min(1, 0.35 + 0.65 * shade);
    const light = Math.max(0, Math.min(0.75, (shade - 1) * 0.7));
    for (let c = 0; c < 3; c++) {
      const base = colour.rgb[c]! * dark;
      out[i + c] = Math.round(base + (255 - base) * light);
    }
    out[i + 3] = rgba[i + 3]!;
  }
  return { size: sprite.size, rgba: out };
}

/** Paint `sprite` over `pixels` (`[side, side, 3]`) with its upper left corner at `(left, top)`. */
export function paste(pixels: Uint8Array, side: number, sprite: Sprite, left: number, top: number): void {
  const { rgba, size } = sprite;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const from = (y * size + x) * 4;
      const alpha = rgba[from + 3]!;
      if (alpha === 0) continue;
      const to = ((top + y) * side + left + x) * 3;
      for (let c = 0; c < 3; c++) {
        pixels[to + c] = Math.round((rgba[from + c]! * alpha + pixels[to + c]! * (255 - alpha)) / 255);
      }
    }
  }
}

/**
 * Draw a scene.
 * @param spriteFor the drawing of one item at a size in pixels, already in its colour.
 * @returns `[side, side, 3]`, 8 bits a component.
 */
export function renderScene(
  scene: Scene, background: NamedColour, side: number, spriteFor: (item: number, size: number) => Sprite,
): Uint8Array {
  const pixels = new Uint8Array(side * side * 3);
  for (let i = 0; i < pixels.length; i++) pixels[i] = background.rgb[i % 3]!;
  for (const { item, column, row, cells } of placementsOf(scene, side / CELL_PIXELS)) {
    paste(pixels, side, spriteFor(item, cells * CELL_PIXELS), column * CELL_PIXELS, row * CELL_PIXELS);
  }
  return pixels;
}
