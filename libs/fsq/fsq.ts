/**
 * Finite scalar quantisation: an image token is a number whose digits are the levels of its channels, channel 0 first
 * and fastest. Digit d of a channel with L levels stands for `(d - floor(L / 2)) / floor(L / 2)`.
 * @see Mentzer et al., arXiv 2309.15505
 */

/** How many tokens there are: the product of the levels. */
export function codebookSize(levels: readonly number[]): number {
  return levels.reduce((product, level) => product * level, 1);
}

/** What one step of each channel is worth in a token. */
export function codeBasis(levels: readonly number[]): readonly number[] {
  return levels.map((_, channel) => codebookSize(levels.slice(0, channel)));
}

/** The codes of all tokens, `[codebook, channels]`, row-major. */
export function codeTable(levels: readonly number[]): Float32Array {
  const basis = codeBasis(levels);
  const size = codebookSize(levels);
  const table = new Float32Array(size * levels.length);
  for (let token = 0; token < size; token++) {
    levels.forEach((level, channel) => {
      const half = Math.floor(level / 2);
      const digit = Math.floor(token / basis[channel]) % level;
      table[token * levels.length + channel] = (digit - half) / half;
    });
  }
  return table;
}

/** How a latent number is squeezed before it is rounded to a digit: `tanh(x + shift) * half - offset`. */
export interface CodeBounds {
  readonly shift: number;
  readonly half: number;
  readonly offset: number;
}

/** The bounds of a channel with `level` levels: rounding gives `-floor(level / 2)` and the `level - 1` numbers after it. */
export function codeBounds(level: number): CodeBounds {
  const half = ((level - 1) * (1 + 1e-3)) / 2;
  const offset = level % 2 === 0 ? 0.5 : 0;
  return { shift: Math.atanh(offset / half), half, offset };
}
