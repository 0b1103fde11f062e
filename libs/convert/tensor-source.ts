import { constants } from "node:buffer";
import { mismatch, unsupported } from "#libs/errors/errors.js";
import { floatsFromBfloat16, floatsFromHalves } from "#libs/tensor/half.js";

/** How a checkpoint stores one number. */
export type ElementType = "F32" | "F16" | "BF16" | "I32" | "I64";

/** Bytes of one number. */
export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = { F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8 };

/** One array of a checkpoint, not read yet. Whoever made it has seen that its file is as large as its shape says. */
export interface StoredTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Fill `target` with the bytes of its numbers, row-major and little-endian, from number `first` on. */
  read(target: Uint8Array, first: number): Promise<void>;
}

/** Hears how many bytes of arrays were read, each time that some are. */
export type ReadObserver = (bytes: number) => void;

/** Number of elements of an array; infinite where that cannot be counted. */
export function elementCount(shape: readonly number[]): number {
  return shape.includes(0) ? 0 : shape.reduce((product, size) => product * size, 1);
}

/** The arrays of one checkpoint by name. It knows which ones were asked for, so that none is lost in silence. */
export class TensorSource {
  readonly #label: string;
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly #onRead: ReadObserver | undefined;
  readonly #taken = new Set<string>();

  /** @param label what errors call the checkpoint, e.g. its file name. */
  constructor(label: string, tensors: ReadonlyMap<string, StoredTensor>, onRead?: ReadObserver) {
    this.#label = label;
    this.#tensors = tensors;
    this.#onRead = onRead;
  }

  /** Names in the checkpoint's own order. */
  get names(): readonly string[] {
    return [...this.#tensors.keys()];
  }

  /** Bytes of all arrays as they are stored. */
  get bytes(): number {
    return [...this.#tensors.values()].reduce((sum, { type, shape }) => sum + elementCount(shape) * ELEMENT_BYTES[type], 0);
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** @throws mismatch if the checkpoint has no such array. */
  shape(name: string): readonly number[] {
    return this.#find(name).shape;
  }

  /**
   * One array as float32, widened exactly. It takes no memory but the result's.
   * @param shape what it must be; each call reads afresh.
   * @param rows which part of the first axis is wanted, end excluded; all when left out.
   * @throws mismatch naming the array if it is missing, of another shape, or not of floats.
   */
  async floats(name: string, shape: readonly number[], rows?: readonly [from: number, to: number]): Promise<Float32Array> {
    const tensor = this.#take(name, shape);
    const { type } = tensor;
    if (type !== "F32" && type !== "F16" && type !== "BF16") throw mismatch(`${this.#label}: \`${name}\` must hold floats, got ${type}`);
    const [from, to] = rows ?? [0, shape[0] ?? 1];
    const rowLength = elementCount(shape.slice(1));
    const values = new Float32Array(this.#affordable(name, (to - from) * rowLength, 4));
    // Narrower numbers are read into the end of the result and widened from its start: no value is overwritten unread.
    const stored = new Uint8Array(values.buffer, values.length * (4 - ELEMENT_BYTES[type]));
    await this.#read(tensor, stored, from * rowLength);
    if (type === "F32") return values;
    const words = new Uint16Array(values.buffer, stored.byteOffset);
    return type === "F16" ? floatsFromHalves(words, values) : floatsFromBfloat16(words, values);
  }

  /** Check and take one array now; it is read, as `floats` does, when the returned function is called. */
  claim(name: string, shape: readonly number[]): () => Promise<Float32Array> {
    this.#take(name, shape);
    return () => this.floats(name, shape);
  }

  /** One array of whole numbers. @throws mismatch naming the array if it is missing, of another shape, or not of integers. */
  async integers(name: string, shape: readonly number[]): Promise<readonly number[]> {
    const tensor = this.#take(name, shape);
    const { type } = tensor;
    if (type !== "I32" && type !== "I64") throw mismatch(`${this.#label}: \`${name}\` must hold integers, got ${type}`);
    const bytes = new Uint8Array(ELEMENT_BYTES[type] * this.#affordable(name, elementCount(shape), ELEMENT_BYTES[type]));
    await this.#read(tensor, bytes, 0);
    return type === "I32" ? [...new Int32Array(bytes.buffer)] : Array.from(new BigInt64Array(bytes.buffer), Number);
  }

  /** Call when all is read. @throws mismatch naming the arrays that nobody asked for. */
  finish(): void {
    const left = this.names.filter((name) => !this.#taken.has(name));
    if (left.length === 0) return;
    const shown = left.slice(0, 5).map((name) => `\`${name}\``).join(", ");
    throw mismatch(`${this.#label}: ${left.length} unknown array(s): ${shown}${left.length > 5 ? ", ..." : ""}`);
  }

  #find(name: string): StoredTensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw mismatch(`${this.#label}: array \`${name}\` is missing`);
    return tensor;
  }

  #take(name: string, shape: readonly number[]): StoredTensor {
    const tensor = this.#find(name);
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, axis) => size !== shape[axis])) {
      throw mismatch(`${this.#label}: \`${name}\` must have shape [${shape.join(", ")}], got [${tensor.shape.join(", ")}]`);
    }
    this.#taken.add(name);
    return tensor;
  }

  async #read(tensor: StoredTensor, target: Uint8Array, first: number): Promise<void> {
    await tensor.read(target, first);
    this.#onRead?.(target.length);
  }

  /** `count`, if so many elements can lie in one array. */
  #affordable(name: string, count: number, width: number): number {
    if (count * width <= constants.MAX_LENGTH) return count;
    throw unsupported(`${this.#label}: \`${name}\` would take ${count * width} bytes, one array here holds ${constants.MAX_LENGTH}`);
  }
}
