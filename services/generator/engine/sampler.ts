import { type DrawAddress, FAN_OUT, GumbelNoise } from "./gumbel-noise.js";

/** The most likely token; the smallest id on a tie. */
export function argMax(logits: Float32Array): number {
  let best = 0;
  for (let v = 1; v < logits.length; v++) if (logits[v]! > logits[best]!) best = v;
  return best;
}

/**
 * Draw a token from `softmax(logits)`: the arg-max of `logits[v] + g(v)`, where g is Gumbel noise addressed by
 * (seed, image, position, token). Coupling every draw to its address makes speculation exact: a drafted token is right
 * when it equals this arg-max.
 *
 * One comparison a token; noise only for the parts of the codebook that may hold the arg-max.
 * @param logits `[V]`; -Infinity is never drawn, and not all may be.
 * @see Maddison et al., "A* sampling", arXiv 1411.0030
 */
export function sample(logits: Float32Array, address: DrawAddress): number {
  return new Search(logits, new GumbelNoise(address)).run();
}

/** A branch-and-bound search of the noise tree: a node is passed over when its largest logit and noise are too small. */
class Search {
  /** Largest logit of each node, level by level; the last level are the tokens themselves. */
  readonly #levels: readonly Float32Array[];
  /** Tokens under a node of each level. */
  readonly #spans: readonly number[];
  readonly #noise: GumbelNoise;
  #token = -1;
  #score = -Infinity;

  constructor(logits: Float32Array, noise: GumbelNoise) {
    const levels = [logits];
    const spans = [1];
    while (levels[0]!.length > 1) {
      levels.unshift(largestOfGroups(levels[0]!));
      spans.unshift(spans[0]! * FAN_OUT);
    }
    this.#levels = levels;
    this.#spans = spans;
    this.#noise = noise;
  }

  run(): number {
    this.#visit(0, 0, this.#noise.rootTop(this.#size(0, 0)));
    return this.#token;
  }

  #size(level: number, index: number): number {
    const span = this.#spans[level]!;
    return Math.min(span, this.#levels.at(-1)!.length - index * span);
  }

  #visit(level: number, index: number, top: number): void {
    const largest = this.#levels[level]![index]!;
    const bound = largest + top;
    if (bound < this.#score || largest === -Infinity) return;
    if (level === this.#levels.length - 1) {
      if (bound > this.#score || index < this.#token) this.#token = index;
      this.#score = bound;
      return;
    }
    const below = level + 1;
    const span = this.#spans[below]!;
    const holder = index * FAN_OUT + Math.floor(this.#noise.holder(level, index, this.#size(level, index)) / span);
    this.#visit(below, holder, top);
    // What every other child needs at least; one exponential for all of them.
    const enough = GumbelNoise.uniformFor(this.#score - largest, span, top);
    const end = Math.min(this.#levels[below]!.length, (index + 1) * FAN_OUT);
    for (let child = index * FAN_OUT; child < end; child++) {
      if (child === holder) continue;
      const uniform = this.#noise.uniform(below, child);
      if (uniform >= enough) this.#visit(below, child, GumbelNoise.topBelow(uniform, this.#size(below, child), top));
    }
  }
}

function largestOfGroups(values: Float32Array): Float32Array {
  const groups = new Float32Array(Math.ceil(values.length / FAN_OUT));
  for (let group = 0; group < groups.length; group++) {
    const end = Math.min(values.length, (group + 1) * FAN_OUT);
    let largest = -Infinity;
    for (let i = group * FAN_OUT; i < end; i++) {
      const value = values[i]!;
      largest = value > largest ? value : largest;
    }
    groups[group] = largest;
  }
  return groups;
}
