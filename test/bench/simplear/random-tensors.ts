import type { StoredTensor } from "#libs/convert/tensor-source.js";

/** Odd constants of a 32-bit mixing function. @see Steele et al., "Fast splittable pseudorandom number generators" */
const [STEP, MIX_A, MIX_B] = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35];

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** Arrays by name that are made when they are read: a checkpoint of any size that lies nowhere. */
export class RandomTensors {
  readonly tensors = new Map<string, StoredTensor>();

  /** Weights of a layer with `inputs` inputs, uniform and of a size that keeps activations near 1; bfloat16. */
  weights(name: string, shape: readonly number[], inputs: number): void {
    const [seed, spread] = [this.tensors.size + 1, 2 * Math.sqrt(3 / inputs)];
    const valueAt = (index: number): number => spread * (mixed(seed, index) / 2 ** 32 - 0.5);
    this.tensors.set(name, { type: "BF16", shape, read: async (target, first) => fillBfloat16(target, first, valueAt) });
  }

  /** A list of equal numbers; bfloat16. */
  constant(name: string, size: number, value: number): void {
    this.tensors.set(name, { type: "BF16", shape: [size], read: async (target) => fillBfloat16(target, 0, () => value) });
  }

  /** A list of whole numbers. */
  integers(name: string, values: readonly number[]): void {
    const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    this.tensors.set(name, { type: "I64", shape: [values.length], read: async (target, first) => target.set(bytes.subarray(8 * first)) });
  }
}

function mixed(seed: number, index: number): number {
  let z = (Math.imul(seed, MIX_B) + Math.imul(index + 1, STEP)) | 0;
  z = Math.imul(z ^ (z >>> 16), MIX_A);
  z = Math.imul(z ^ (z >>> 13), MIX_B);
  return (z ^ (z >>> 16)) >>> 0;
}

function fillBfloat16(target: Uint8Array, first: number, valueAt: (index: number) => number): void {
  const words = new Uint16Array(target.buffer, target.byteOffset, target.byteLength / 2);
  for (let i = 0; i < words.length; i++) {
    float[0] = valueAt(first + i);
    words[i] = word[0] >>> 16;
  }
}
