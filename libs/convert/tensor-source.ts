import { mismatch } from "#libs/errors/errors.js";
import { floatsFromBfloat16, floatsFromHalves } from "#libs/tensor/half.js";

/** How a checkpoint stores one number. */
export type ElementType = "F32" | "F16" | "BF16" | "I32" | "I64";

/** Bytes of one number. */
export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = { F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8 };

/** One array of a checkpoint, not read yet. */
export interface StoredTensor {
  readonly type: ElementType;
  readonly shape: readonly number[];
  /** Row-major little-endian numbers in a buffer of their own. */
  read(): Promise<ArrayBuffer>;
}

/** The arrays of one checkpoint by name. It knows which ones were asked for, so that none is lost in silence. */
export class TensorSource {
  readonly #label: string;
  readonly #tensors: ReadonlyMap<string, StoredTensor>;
  readonly #taken = new Set<string>();

  /** @param label what errors call the checkpoint, e.g. its file name. */
  constructor(label: string, tensors: ReadonlyMap<string, StoredTensor>) {
    this.#label = label;
    this.#tensors = tensors;
  }

  /** Names in the checkpoint's own order. */
  get names(): readonly string[] {
    return [...this.#tensors.keys()];
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** @throws mismatch if the checkpoint has no such array. */
  shape(name: string): readonly number[] {
    return this.#find(name).shape;
  }

  /**
   * One array as float32, widened exactly.
   * @param shape what it must be; each call reads afresh.
   * @throws mismatch naming the array if it is missing, of another shape, or not of floats.
   */
  async floats(name: string, shape: readonly number[]): Promise<Float32Array> {
    const tensor = this.#take(name, shape);
    const buffer = await tensor.read();
    if (tensor.type === "F32") return new Float32Array(buffer);
    if (tensor.type === "F16") return floatsFromHalves(new Uint16Array(buffer));
    if (tensor.type === "BF16") return floatsFromBfloat16(new Uint16Array(buffer));
    throw mismatch(`${this.#label}: \`${name}\` must hold floats, got ${tensor.type}`);
  }

  /** One array of whole numbers. @throws mismatch naming the array if it is missing, of another shape, or not of integers. */
  async integers(name: string, shape: readonly number[]): Promise<readonly number[]> {
    const tensor = this.#take(name, shape);
    const buffer = await tensor.read();
    if (tensor.type === "I32") return [...new Int32Array(buffer)];
    if (tensor.type === "I64") return Array.from(new BigInt64Array(buffer), Number);
    throw mismatch(`${this.#label}: \`${name}\` must hold integers, got ${tensor.type}`);
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
}
