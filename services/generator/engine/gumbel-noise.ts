import { openUniform, philox4x32 } from "#libs/random/philox.js";

/** Names one draw: the same address always gives the same noise, whatever else runs. */
export interface DrawAddress {
  /** 64 bits. */
  readonly seed: bigint;
  readonly imageIndex: number;
  /** The image token's position, 0 for the first. */
  readonly position: number;
}

/** Children of a node. */
export const FAN_OUT = 64;

/**
 * Independent standard Gumbel noise for every token of one draw, as a tree that is made from the top down: a node stands
 * for consecutive tokens and knows the largest noise among them, its top; its children are looked at only when someone
 * asks. The root is level 0, the tokens are the last level.
 *
 * The largest of n Gumbels is a Gumbel shifted by ln n, each of the n is as likely to have it, and the largest of the m
 * in another child is a Gumbel shifted by ln m, truncated at the parent's.
 * @see Maddison et al., "A* sampling", arXiv 1411.0030
 */
export class GumbelNoise {
  /** Tokens under a node of each level. */
  readonly spans: readonly number[];
  readonly #codebookSize: number;
  readonly #position: number;
  readonly #imageIndex: number;
  readonly #keyLow: number;
  readonly #keyHigh: number;
  readonly #words = new Uint32Array(4);
  #group = -1;
  #purpose = -1;

  constructor(codebookSize: number, { seed, imageIndex, position }: DrawAddress) {
    const spans = [1];
    while (spans[0] < codebookSize) spans.unshift(spans[0] * FAN_OUT);
    this.spans = spans;
    this.#codebookSize = codebookSize;
    this.#position = position;
    this.#imageIndex = imageIndex;
    this.#keyLow = Number(seed & 0xffffffffn);
    this.#keyHigh = Number((seed >> 32n) & 0xffffffffn);
  }

  /** The largest noise of all. */
  rootTop(): number {
    return Math.log(this.#codebookSize) - Math.log(-Math.log(this.uniform(0, 0)));
  }

  /** A uniform number in (0, 1) of its own for every node. */
  uniform(level: number, index: number): number {
    return openUniform(this.#draw(2 * level, index));
  }

  /** The child that has a node's top, by its index in its level. */
  holder(level: number, index: number): number {
    const token = Math.floor(openUniform(this.#draw(2 * level + 1, index)) * this.#size(level, index));
    return index * FAN_OUT + Math.floor(token / this.spans[level + 1]);
  }

  /** The top of a node that does not hold its parent's. @param uniform the node's own. */
  topBelow(level: number, index: number, uniform: number, parentTop: number): number {
    return -Math.log(Math.exp(-parentTop) - Math.log(uniform) / this.#size(level, index));
  }

  /** A bound: a node of this level whose uniform number is smaller has a top that is no larger than `top`. */
  uniformFor(level: number, top: number, parentTop: number): number {
    return Math.exp(this.spans[level] * (Math.exp(-parentTop) - Math.exp(-top)));
  }

  /** The noise of one token. */
  of(token: number): number {
    let top = this.rootTop();
    let index = 0;
    for (let level = 1; level < this.spans.length; level++) {
      const child = Math.floor(token / this.spans[level]);
      if (child !== this.holder(level - 1, index)) top = this.topBelow(level, child, this.uniform(level, child), top);
      index = child;
    }
    return top;
  }

  #size(level: number, index: number): number {
    return Math.min(this.spans[level], this.#codebookSize - index * this.spans[level]);
  }

  /** Four neighbours share one run of the random function. */
  #draw(purpose: number, index: number): number {
    const group = index >>> 2;
    if (group !== this.#group || purpose !== this.#purpose) {
      philox4x32(group, this.#position, this.#imageIndex, purpose, this.#keyLow, this.#keyHigh, this.#words);
      this.#group = group;
      this.#purpose = purpose;
    }
    return this.#words[index & 3];
  }
}
