import { type DrawAddress, FAN_OUT, GumbelNoise } from "./gumbel-noise.js";
import type { Law } from "./law.js";

/** Asking for single tokens' noise is worth it for at most one token in so many. */
const SPARSE = 16;

/**
 * Draw a token from a law: the arg-max of `logit + g(token)`, where g is Gumbel noise addressed by (seed, image, position,
 * token); the smallest id on a tie. Coupling every draw to its address makes speculation exact: a drafted token is right
 * when it equals this arg-max.
 *
 * Costs one comparison a token at most: noise is made only for the parts of the codebook that may hold the arg-max.
 * @see Maddison et al., "A* sampling", arXiv 1411.0030
 */
export function sample(law: Law, address: DrawAddress): number {
  const { codebookSize, tokens, logits } = law;
  if (tokens?.length === 1) return tokens[0];
  const noise = new GumbelNoise(codebookSize, address);
  if (tokens === undefined) return new Search(logits, noise).run();
  if (tokens.length * SPARSE <= codebookSize) return bestOf(tokens, logits, noise);
  const all = new Float32Array(codebookSize).fill(-Infinity);
  tokens.forEach((token, i) => (all[token] = logits[i]));
  return new Search(all, noise).run();
}

function bestOf(tokens: Uint32Array, logits: Float32Array, noise: GumbelNoise): number {
  let best = -1;
  let bestScore = -Infinity;
  for (let i = 0; i < tokens.length; i++) {
    const score = logits[i] + noise.of(tokens[i]);
    if (score > bestScore) {
      best = tokens[i];
      bestScore = score;
    }
  }
  return best;
}

/** A branch-and-bound search of the noise tree: a node is passed over when its largest logit and noise are too small. */
class Search {
  /** Largest logit of each node, level by level; the last level are the tokens themselves. */
  readonly #levels: readonly Float32Array[];
  readonly #noise: GumbelNoise;
  #token = -1;
  #score = -Infinity;

  constructor(logits: Float32Array, noise: GumbelNoise) {
    const levels = [logits];
    while (levels.length < noise.spans.length) levels.unshift(largestOfGroups(levels[0]));
    this.#levels = levels;
    this.#noise = noise;
  }

  run(): number {
    this.#visit(0, 0, this.#noise.rootTop());
    return this.#token;
  }

  #visit(level: number, index: number, top: number): void {
    const largest = this.#levels[level][index];
    const bound = largest + top;
    if (bound < this.#score || largest === -Infinity) return;
    if (level === this.#levels.length - 1) {
      if (bound > this.#score || index < this.#token) this.#token = index;
      this.#score = bound;
      return;
    }
    const below = level + 1;
    const holder = this.#noise.holder(level, index);
    this.#visit(below, holder, top);
    // What every other child needs at least; one bound for all of them.
    const enough = this.#noise.uniformFor(below, this.#score - largest, top);
    const end = Math.min(this.#levels[below].length, (index + 1) * FAN_OUT);
    for (let child = index * FAN_OUT; child < end; child++) {
      if (child === holder) continue;
      const uniform = this.#noise.uniform(below, child);
      if (uniform >= enough) this.#visit(below, child, this.#noise.topBelow(below, child, uniform, top));
    }
  }
}

function largestOfGroups(values: Float32Array): Float32Array {
  const groups = new Float32Array(Math.ceil(values.length / FAN_OUT));
  for (let group = 0; group < groups.length; group++) {
    const end = Math.min(values.length, (group + 1) * FAN_OUT);
    let largest = -Infinity;
    for (let i = group * FAN_OUT; i < end; i++) {
      const value = values[i];
      largest = value > largest ? value : largest;
    }
    groups[group] = largest;
  }
  return groups;
}
