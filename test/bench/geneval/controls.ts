import sharp from "sharp";
import { CELL_PIXELS, paste, placementsOf } from "#libs/training/render.js";
import type { Draws, Scene } from "#libs/training/scene.js";
import { PICTURE_BYTES, SIDE, type Picture } from "./picture.js";
import type { Atlas } from "./renders.js";

/** What a control is made from: the scene its prompt asks for, and that of another prompt. */
export interface ControlInput {
  readonly atlas: Atlas;
  readonly scene: Scene;
  readonly other: Scene;
  readonly draws: Draws;
}

/** Pictures that a judge must refuse, by name: each uses the asked objects and yet does not show them. */
export const CONTROLS: Readonly<Record<string, (input: ControlInput) => Picture | Promise<Picture>>> = {
  noise: ({ draws }) => Uint8Array.from({ length: PICTURE_BYTES }, () => Math.floor(draws.next() * 256)),
  "empty background": ({ atlas, scene }) => atlas.canvas(scene.background),
  "blurred ghosts": ({ atlas, scene, draws }) => blurred(atlas.draw(scene, draws), 6 + 4 * draws.next()),
  "50/50 blends": ({ atlas, scene, other, draws }) => mixed(atlas.draw(scene, draws), atlas.draw(other, draws), () => 0.5),
  "cut-paste halves": ({ atlas, scene, other, draws }) => halves(atlas, scene, other, draws),
  "patch shuffles": ({ atlas, scene, draws }) => shuffled(atlas.draw(scene, draws), draws.pick([8, 12, 16, 24]), draws),
  patchwork: ({ atlas, scene, other, draws }) => patchwork(atlas.draw(scene, draws), atlas.draw(other, draws), draws),
  "shapeless blobs": ({ atlas, scene, draws }) => blobs(atlas, scene, draws),
  "dense collages": ({ atlas, scene, draws }) => collage(atlas, scene, draws),
  "shuffled prompts": ({ atlas, other, draws }) => atlas.draw(other, draws),
};

/** `share` of `a` and the rest of `b` at each patch of 8 pixels. */
function mixed(a: Picture, b: Picture, share: (column: number, row: number) => number): Picture {
  return a.map((value, i) => {
    const pixel = Math.floor(i / 3);
    const part = share(Math.floor((pixel % SIDE) / CELL_PIXELS), Math.floor(pixel / SIDE / CELL_PIXELS));
    return Math.round(part * value + (1 - part) * b[i]!);
  });
}

async function blurred(picture: Picture, sigma: number): Promise<Picture> {
  const image = sharp(picture, { raw: { width: SIDE, height: SIDE, channels: 3 } }).blur(sigma);
  return new Uint8Array(await image.raw({ depth: "uchar" }).toBuffer());
}

/** Every asked object with the right or lower half of another thing; all layouts lie on a grid of quarters. */
function halves(atlas: Atlas, scene: Scene, other: Scene, draws: Draws): Picture {
  const isUpright = draws.next() < 0.5;
  const foreign = other.items.find(({ object }) => scene.items.every((item) => item.object !== object)) ?? { object: "key" };
  const strange = { ...scene, items: scene.items.map(() => foreign) };
  const half = scene.items.length === 1 && scene.count === 1 ? SIDE / 2 : SIDE / 4;
  const [whole, rest] = [atlas.draw(scene, draws), atlas.draw(strange, draws)];
  const isFirst = (cell: number) => Math.floor((cell * CELL_PIXELS) / half) % 2 === 0;
  return mixed(whole, rest, (column, row) => Number(isFirst(isUpright ? column : row)));
}

function shuffled(picture: Picture, size: number, draws: Draws): Picture {
  const cells = SIDE / size;
  const order = Array.from({ length: cells * cells }, (_, cell) => cell);
  for (let last = order.length - 1; last > 0; last--) {
    const swap = Math.floor(draws.next() * (last + 1));
    [order[last], order[swap]] = [order[swap]!, order[last]!];
  }
  return picture.map((_, i) => {
    const [x, y] = [Math.floor(i / 3) % SIDE, Math.floor(i / 3 / SIDE)];
    const from = order[Math.floor(y / size) * cells + Math.floor(x / size)]!;
    const [left, top] = [(from % cells) * size + (x % size), Math.floor(from / cells) * size + (y % size)];
    return picture[(top * SIDE + left) * 3 + (i % 3)]!;
  });
}

/** Half of the patches from another picture. */
function patchwork(a: Picture, b: Picture, draws: Draws): Picture {
  const cells = SIDE / CELL_PIXELS;
  const shares = Array.from({ length: cells * cells }, () => Number(draws.next() < 0.5));
  return mixed(a, b, (column, row) => shares[row * cells + column]!);
}

/** Something of the asked colour, or any, at the place of every asked object. */
async function blobs(atlas: Atlas, scene: Scene, draws: Draws): Promise<Picture> {
  const picture = atlas.canvas(scene.background);
  for (const { item, column, row, cells } of placementsOf(scene, SIDE / CELL_PIXELS)) {
    const { rgb } = atlas.colour(scene.items[item]!.colour ?? draws.pick(atlas.vocabulary.colours).name);
    const [x, y, radius] = [(column + cells / 2) * CELL_PIXELS, (row + cells / 2) * CELL_PIXELS, cells * CELL_PIXELS * 0.36];
    const waves = [1, 2, 3, 4].map((times) => ({ times, height: 0.4 * (draws.next() - 0.5), turn: 7 * draws.next() }));
    for (let i = 0; i < SIDE * SIDE; i++) {
      const [dx, dy] = [(i % SIDE) - x, Math.floor(i / SIDE) - y];
      const edge = waves.reduce((sum, { times, height, turn }) => sum + height * Math.cos(times * Math.atan2(dy, dx) + turn), 1);
      if (Math.hypot(dx, dy) < radius * edge) picture.set(rgb, i * 3);
    }
  }
  return blurred(picture, 1.5);
}

/** The asked objects and many more, heaped. */
function collage(atlas: Atlas, scene: Scene, draws: Draws): Picture {
  const picture = atlas.canvas(scene.background);
  const extra = Array.from({ length: 8 }, () => ({ object: draws.pick(atlas.vocabulary.objects).noun }));
  for (const item of [...scene.items, ...extra, ...scene.items]) {
    const [left, top] = [draws.next(), draws.next()].map((share) => Math.floor(share * (SIDE - 48 + 1)));
    paste(picture, SIDE, atlas.sprite(item, scene.style, 48), left!, top!);
  }
  return picture;
}
