import type { Picture } from "./picture.js";

/** Running sums over pictures and what a codec made of them. */
export class CodecQuality {
  readonly #codebookSize: number;
  readonly #used = new Set<number>();
  #pictures = 0;
  #squares = 0;
  #similarity = 0;

  constructor(codebookSize: number) {
    this.#codebookSize = codebookSize;
  }

  /** Count one more picture with its tokens and its reconstruction. */
  add(original: Picture, reconstruction: Picture, tokens: Uint32Array): void {
    this.#pictures++;
    this.#squares += original.reduce((sum, value, i) => sum + (value - reconstruction[i]!) ** 2, 0) / original.length;
    this.#similarity += similarityOf(original, reconstruction);
    for (const token of tokens) this.#used.add(token);
  }

  /** Peak signal to noise ratio of the mean error in decibels, mean SSIM, and the share of the codebook in use. */
  get numbers(): { readonly psnrDb: number; readonly ssim: number; readonly codesUsed: number } {
    return {
      psnrDb: 10 * Math.log10(255 ** 2 / (this.#squares / this.#pictures)), ssim: this.#similarity / this.#pictures,
      codesUsed: this.#used.size / this.#codebookSize,
    };
  }
}

/** Structural similarity (Wang et al. 2004) of luminance, over whole 8-pixel windows 4 pixels apart. */
export function similarityOf(a: Picture, b: Picture): number {
  const side = Math.sqrt(a.length / 3);
  const grey = (picture: Picture) => Float64Array.from({ length: side * side }, (_, i) => (
    0.299 * picture[i * 3]! + 0.587 * picture[i * 3 + 1]! + 0.114 * picture[i * 3 + 2]!
  ));
  const [x, y] = [grey(a), grey(b)];
  let [sum, windows] = [0, 0];
  for (let top = 0; top + 8 <= side; top += 4) {
    for (let left = 0; left + 8 <= side; left += 4, windows++) sum += windowSimilarity(x, y, top * side + left, side);
  }
  return sum / windows;
}

function windowSimilarity(x: Float64Array, y: Float64Array, corner: number, side: number): number {
  let [sx, sy, sxx, syy, sxy] = [0, 0, 0, 0, 0];
  for (let i = 0; i < 64; i++) {
    const at = corner + (i >> 3) * side + (i & 7);
    sx += x[at]!;
    sy += y[at]!;
    sxx += x[at]! ** 2;
    syy += y[at]! ** 2;
    sxy += x[at]! * y[at]!;
  }
  const [mx, my] = [sx / 64, sy / 64];
  const [c1, c2] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2];
  return ((2 * mx * my + c1) * (2 * (sxy / 64 - mx * my) + c2)) / ((mx * mx + my * my + c1) * (sxx / 64 - mx * mx + syy / 64 - my * my + c2));
}
