import { openUniform, philox4x32 } from "#libs/random/philox.js";
import { enlarged, halved, latentSize, weightedSum, type Latent, type LatentShape } from "./latent.js";

/** Names the noise of one stage: the same address always gives the same numbers, whatever else runs. */
export interface NoiseAddress {
  /** 64 bits. */
  readonly seed: bigint;
  readonly imageIndex: number;
  /** 0 is the coarsest. */
  readonly stage: number;
}

/** Keeps these draws apart from all others under the same seed. */
const PURPOSE = 0x666c6f77;

/**
 * Independent standard normal numbers in the shape of a latent: each four come of one draw addressed by their place.
 * @see Box & Muller, "A note on the generation of random normal deviates", 1958
 */
export function gaussianNoise({ seed, imageIndex, stage }: NoiseAddress, shape: LatentShape): Latent {
  const values = new Float32Array(latentSize(shape));
  const words = new Uint32Array(4);
  const key = [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)] as const;
  for (let i = 0; i < values.length; i += 4) {
    philox4x32(i >>> 2, stage, imageIndex, PURPOSE, ...key, words);
    for (let pair = 0; pair < 4 && i + pair < values.length; pair += 2) {
      const radius = Math.sqrt(-2 * Math.log(openUniform(words[pair])));
      const angle = 2 * Math.PI * openUniform(words[pair + 1]);
      values[i + pair] = radius * Math.cos(angle);
      if (i + pair + 1 < values.length) values[i + pair + 1] = radius * Math.sin(angle);
    }
  }
  return { channels: shape.channels, height: shape.height, width: shape.width, values };
}

/**
 * Noise of variance 1 whose numbers have covariance -1/3 inside each square of four and none across: white noise without
 * its squares' means, scaled.
 * @param white independent standard normal numbers; height and width are even.
 */
export function blockNoise(white: Latent): Latent {
  const factor = 2 / Math.sqrt(3);
  return weightedSum(factor, white, -factor, enlarged(halved(white)));
}
