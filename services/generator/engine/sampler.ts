import { type DrawAddress, FAN_OUT, GumbelNoise } from "./gumbel-noise.js";
import { isAllowed, type Law } from "./law.js";

/**
 * Draw a token from a law: the arg-max of `logit + g(token)`, where g is Gumbel noise addressed by (seed, image, position,
 * token); the smallest id on a tie. Coupling every draw to its address makes speculation exact: a drafted token is right
 * when it equals this arg-max.
 *
 * Noise is made only for the parts of the codebook that may hold the arg-max.
 * @see Maddison et al., "A* sampling", arXiv 1411.0030
 */
export function sample(law: Law, address: DrawAddress): number {
  return new Search(law, new GumbelNoise(law.logits.length, address)).run();
}

/** A branch-and-bound search of the noise tree: a node is passed over when its largest logit and noise are too small. */
class Search {
  readonly #law: Law;
  /** Largest logit of each node, level by level; the last level are the tokens themselves. */
  readonly #levels: readonly Float32Array[];
  readonly #noise: GumbelNoise;
  #token = -1;
  #score = -Infinity;

  constructor(law: Law, noise: GumbelNoise) {
    const levels = noise.spans.length === 1 ? [law.logits] : [law.tops, law.logits];
    while (levels.length < noise.spans.length) levels.unshift(largestOfGroups(levels[0]));
    this.#law = law;
    this.#levels = levels;
    this.#noise = noise;
  }

  run(): number {
    // A score to beat from the start: with the most likely token's most of the tree is passed over.
    this.#token = mostLikely(this.#law);
    this.#score = this.#law.logits[this.#token] + this.#noise.of(this.#token);
    this.#visit(0, 0, this.#noise.rootTop());
    return this.#token;
  }

  /** @param top the largest noise under the node. */
  #visit(level: number, index: number, top: number): void {
    const largest = this.#levels[level][index];
    const bound = largest + top;
    if (bound < this.#score) return;
    if (level === this.#levels.length - 1) {
      if (!isAllowed(this.#law, index)) return;
      if (bound > this.#score || index < this.#token) this.#token = index;
      this.#score = bound;
      return;
    }
    const below = level + 1;
    const holder = this.#noise.holder(level, index);
    if (this.#levels[below][holder] >= this.#law.floor) this.#visit(below, holder, top);
    // What every other child needs at least; one bound for all of them.
    const enough = this.#noise.uniformFor(below, this.#score - largest, top);
    const end = Math.min(this.#levels[below].length, (index + 1) * FAN_OUT);
    for (let child = index * FAN_OUT; child < end; child++) {
      if (child === holder || this.#levels[below][child] < this.#law.floor) continue;
      const uniform = this.#noise.uniform(below, child);
      if (uniform >= enough) this.#visit(below, child, this.#noise.topBelow(below, child, uniform, top));
    }
  }
}

/** The smallest id of the largest logit. */
function mostLikely({ logits, tops }: Law): number {
  let best = 0;
  for (let group = 1; group < tops.length; group++) if (tops[group] > tops[best]) best = group;
  let token = best * FAN_OUT;
  while (logits[token] !== tops[best]) token++;
  return token;
}

function largestOfGroups(values: Float32Array): Float32Array {
  const groups = new Float32Array(Math.ceil(values.length / FAN_OUT)).fill(-Infinity);
  for (let i = 0; i < values.length; i++) {
    const group = Math.floor(i / FAN_OUT);
    if (values[i] > groups[group]) groups[group] = values[i];
  }
  return groups;
}
