import { createHash } from "node:crypto";
import type { ImageSection } from "#libs/bundle/manifest.js";
import { invariant } from "#libs/errors/errors.js";

/** The shape of an image in tokens, and how many different tokens there are. */
export type GridShape = Pick<ImageSection, "gridHeight" | "gridWidth" | "codebookSize">;

/** The tokens of one image as they arrive, in raster order. */
export class TokenGrid {
  readonly #shape: GridShape;
  readonly #tokens: Uint32Array;
  #done = 0;

  constructor(shape: GridShape) {
    this.#shape = shape;
    this.#tokens = new Uint32Array(shape.gridHeight * shape.gridWidth);
  }

  /**
   * Add the next tokens.
   * @throws AppError "internal" on a gap, an overlap, too many tokens, or one outside the codebook: the generator broke
   *   its promise.
   */
  append(offset: number, tokens: readonly number[]): void {
    if (offset !== this.#done) throw invariant(`token chunk must start at ${this.#done}, got ${offset}`);
    if (tokens.length === 0 || offset + tokens.length > this.#tokens.length) {
      throw invariant(`token chunk must have 1 .. ${this.#tokens.length - offset} tokens, got ${tokens.length}`);
    }
    const outside = tokens.find((token) => token >= this.#shape.codebookSize);
    if (outside !== undefined) {
      throw invariant(`image tokens must be 0 .. ${this.#shape.codebookSize - 1}, got ${outside}`);
    }
    this.#tokens.set(tokens, offset);
    this.#done += tokens.length;
  }

  /** Tokens so far: a view, valid as long as the grid. */
  get tokens(): Uint32Array {
    return this.#tokens.subarray(0, this.#done);
  }

  /** Whole rows so far. */
  get rowsDone(): number {
    return Math.floor(this.#done / this.#shape.gridWidth);
  }

  /** Whether every token is there. */
  get isComplete(): boolean {
    return this.#done === this.#tokens.length;
  }
}

/**
 * A whole image from its first tokens: every missing token is the most frequent one so far, the earliest of several.
 *
 * That is the background in most pictures, so the drawing stands on its ground instead of trailing off or smearing down
 * to the edge as the row above repeated would. Measured on 40 pictures of the embedded model (`npm run bench --
 * previews`): with 6 of 12 rows done, pixels of finished rows are 2.4 of 255 away from the final ones on average, 1.6
 * without the last of these rows.
 * @param tokens at least one, raster order; not changed.
 * @returns gridHeight * gridWidth tokens on a buffer of their own.
 */
export function previewTokens(tokens: Uint32Array, { gridHeight, gridWidth }: GridShape): Uint32Array {
  const whole = new Uint32Array(gridHeight * gridWidth).fill(mostFrequent(tokens));
  whole.set(tokens);
  return whole;
}

function mostFrequent(tokens: Uint32Array): number {
  const counts = new Map<number, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  const [[first]] = [...counts].sort(([, a], [, b]) => b - a);
  return first;
}

/** SHA-256 of tokens as little-endian uint32, 64 lower-case hexadecimal digits. */
export function tokenDigest(tokens: Uint32Array): string {
  const bytes = Buffer.alloc(tokens.length * 4);
  tokens.forEach((token, index) => bytes.writeUInt32LE(token, index * 4));
  return createHash("sha256").update(bytes).digest("hex");
}
