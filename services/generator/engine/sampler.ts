import { openUniform, philox4x32 } from "#libs/random/philox.js";

/** Names one draw: the same address always gives the same noise, whatever else runs. */
export interface DrawAddress {
  /** 64 bits. */
  readonly seed: bigint;
  readonly imageIndex: number;
  /** The image token's position, 0 for the first. */
  readonly position: number;
}

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
 * @param logits `[V]`; -Infinity is never drawn.
 * @see Maddison et al., "A* sampling", arXiv 1411.0030 (the Gumbel-max trick)
 */
export function sample(logits: Float32Array, { seed, imageIndex, position }: DrawAddress): number {
  const keyLow = Number(seed & 0xffffffffn);
  const keyHigh = Number((seed >> 32n) & 0xffffffffn);
  const words = new Uint32Array(4);
  let best = 0;
  let bestScore = -Infinity;
  let group = -1;
  for (let v = 0; v < logits.length; v++) {
    if (logits[v] === -Infinity) continue;
    if (v >>> 2 !== group) {
      group = v >>> 2;
      philox4x32(group, position, imageIndex, 0, keyLow, keyHigh, words);
    }
    const score = logits[v]! - Math.log(-Math.log(openUniform(words[v % 4]!)));
    if (score > bestScore) {
      best = v;
      bestScore = score;
    }
  }
  return best;
}
