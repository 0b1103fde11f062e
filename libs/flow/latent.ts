import { invariant } from "#libs/errors/errors.js";

/** Sizes of a latent. */
export interface LatentShape {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** A latent, or noise in the shape of one. */
export interface Latent extends LatentShape {
  /** `[channels, height, width]`, row-major. */
  readonly values: Float32Array;
}

/** Numbers in a latent. */
export function latentSize({ channels, height, width }: LatentShape): number {
  return channels * height * width;
}

/** Make every number a square of four equal ones: twice as high and wide. */
export function enlarged({ channels, height, width, values }: Latent): Latent {
  const large = { channels, height: 2 * height, width: 2 * width, values: new Float32Array(4 * values.length) };
  for (let i = 0; i < large.values.length; i++) {
    const column = i % large.width;
    const row = Math.floor(i / large.width);
    // Rows of all channels one under the other: half of a row's number is its source, since heights are even.
    large.values[i] = values[(row >> 1) * width + (column >> 1)];
  }
  return large;
}

/** The mean of each square of four: half as high and wide. Height and width are even. */
export function halved({ channels, height, width, values }: Latent): Latent {
  const small = { channels, height: height / 2, width: width / 2, values: new Float32Array(values.length / 4) };
  for (let i = 0; i < small.values.length; i++) {
    const from = 2 * (Math.floor(i / small.width) * width + (i % small.width));
    small.values[i] = (values[from] + values[from + 1] + values[from + width] + values[from + width + 1]) / 4;
  }
  return small;
}

/** `a * x + b * y`, number by number. @throws invariant if the shapes differ. */
export function weightedSum(a: number, x: Latent, b: number, y: Latent): Latent {
  if (x.values.length !== y.values.length || x.width !== y.width) {
    throw invariant(`latents of ${x.height} x ${x.width} and ${y.height} x ${y.width} cannot be added`);
  }
  return { ...x, values: x.values.map((value, i) => a * value + b * y.values[i]) };
}
