import type { StoredTensor } from "#libs/convert/tensor-source.js";

/** Odd constants of a 32-bit mixing function. @see Steele et al., "Fast splittable pseudorandom number generators" */
const [STEP, MIX_A, MIX_B] = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35];

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** Random numbers before they come again: a prime, so that no two rows of a matrix begin with the same. */
const BLOCK = 1_000_003;
/** How much further on each array begins. */
const STRIDE = 7919;

/** Arrays by name that are made when they are read: a checkpoint of any size that lies nowhere. */
export class RandomTensors {
  readonly tensors = new Map<string, StoredTensor>();
  /** bfloat16 words, uniform in +- half the spread that they are kept under. */
  readonly #blocks = new Map<number, Uint16Array>();

  /** Weights of a layer with `inputs` inputs, uniform and of a size that keeps activations near 1; bfloat16. */
  weights(name: string, shape: readonly number[], inputs: number): void {
    const [shift, spread] = [this.tensors.size * STRIDE, 2 * Math.sqrt(3 / inputs)];
    const read = async (target: Uint8Array, first: number): Promise<void> => this.#fill(wordsOf(target), shift + first, spread);
    this.tensors.set(name, { type: "BF16", shape, read });
  }

  /** A list of equal numbers; bfloat16. */
  constant(name: string, size: number, value: number): void {
    this.tensors.set(name, { type: "BF16", shape: [size], read: async (target) => void wordsOf(target).fill(bfloat16(value)) });
  }

  /** A list of whole numbers. */
  integers(name: string, values: readonly number[]): void {
    const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    this.tensors.set(name, { type: "I64", shape: [values.length], read: async (target, first) => target.set(bytes.subarray(8 * first)) });
  }

  #fill(words: Uint16Array, first: number, spread: number): void {
    const block = this.#blocks.get(spread) ?? Uint16Array.from({ length: BLOCK }, (_, i) => bfloat16(spread * (mixed(i) / 2 ** 32 - 0.5)));
    this.#blocks.set(spread, block);
    for (let done = 0; done < words.length; ) {
      const at = (first + done) % BLOCK;
      const part = block.subarray(at, Math.min(BLOCK, at + words.length - done));
      words.set(part, done);
      done += part.length;
    }
  }
}

function mixed(index: number): number {
  let z = Math.imul(index + 1, STEP);
  z = Math.imul(z ^ (z >>> 16), MIX_A);
  z = Math.imul(z ^ (z >>> 13), MIX_B);
  return (z ^ (z >>> 16)) >>> 0;
}

function bfloat16(value: number): number {
  float[0] = value;
  return word[0] >>> 16;
}

function wordsOf(bytes: Uint8Array): Uint16Array {
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}
