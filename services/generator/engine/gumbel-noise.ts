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
 * for consecutive tokens and knows the largest noise among them; its children are looked at only when someone asks.
 *
 * The largest of n Gumbels is a Gumbel shifted by ln n, each of the n is as likely to have it, and the largest of the m
 * in another child is a Gumbel shifted by ln m, truncated at the parent's.
 * @see Maddison et al., "A* sampling", arXiv 1411.0030
 */
export class GumbelNoise {
  readonly #position: number;
  readonly #imageIndex: number;
  readonly #keyLow: number;
  readonly #keyHigh: number;
  readonly #words = new Uint32Array(4);

  constructor({ seed, imageIndex, position }: DrawAddress) {
    this.#position = position;
    this.#imageIndex = imageIndex;
    this.#keyLow = Number(seed & 0xffffffffn);
    this.#keyHigh = Number((seed >> 32n) & 0xffffffffn);
  }

  /** The largest noise of `size` tokens that are everything there is. */
  rootTop(size: number): number {
    return Math.log(size) - Math.log(-Math.log(this.uniform(0, 0)));
  }

  /**
   * A uniform number in (0, 1) of its own for every node.
   * @param level 0 for the root, one more with every step down.
   * @param index of the node among all of its level.
   */
  uniform(level: number, index: number): number {
    return openUniform(this.#draw(2 * level, index));
  }

  /** Which of a node's `size` tokens has its largest noise. */
  holder(level: number, index: number, size: number): number {
    return Math.floor(openUniform(this.#draw(2 * level + 1, index)) * size);
  }

  /**
   * The largest noise of a node that is not its parent's holder.
   * @param uniform the node's own; @param size its tokens; @param parentTop its parent's largest noise.
   */
  static topBelow(uniform: number, size: number, parentTop: number): number {
    return -Math.log(Math.exp(-parentTop) - Math.log(uniform) / size);
  }

  /** The uniform number above which `topBelow` exceeds `top`; 0 or less means always. */
  static uniformFor(top: number, size: number, parentTop: number): number {
    return Math.exp(size * (Math.exp(-parentTop) - Math.exp(-top)));
  }

  #drawn = -1;
  #drawnPurpose = -1;

  /** Four neighbours share one run of the random function. */
  #draw(purpose: number, index: number): number {
    const group = index >>> 2;
    if (group !== this.#drawn || purpose !== this.#drawnPurpose) {
      philox4x32(group, this.#position, this.#imageIndex, purpose, this.#keyLow, this.#keyHigh, this.#words);
      this.#drawn = group;
      this.#drawnPurpose = purpose;
    }
    return this.#words[index & 3]!;
  }
}
