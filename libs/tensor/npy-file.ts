import { rmSync } from "node:fs";
import { type FileHandle, open, rename } from "node:fs/promises";
import { invariant } from "#libs/errors/errors.js";

/** The header's size, and so where data begin, is a multiple of this. */
const ALIGNMENT = 64;

/**
 * A NumPy file of float32, row-major, written part by part: a large array never lies in memory whole. It has another name
 * until it is complete, so that a file under `path` is never a part of one.
 * @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */
export class NpyFile {
  readonly #path: string;
  readonly #draft: string;
  readonly #file: FileHandle;
  #left: number;

  /** @param path replaced if it exists. The caller finishes or discards the file. */
  static async create(path: string, shape: readonly number[]): Promise<NpyFile> {
    const draft = `${path}.part`;
    const npy = new NpyFile(path, draft, await open(draft, "w"), shape.reduce((product, size) => product * size, 1));
    try {
      await npy.#file.write(header(shape));
      return npy;
    } catch (error) {
      await npy.discard();
      throw error;
    }
  }

  private constructor(path: string, draft: string, file: FileHandle, left: number) {
    this.#path = path;
    this.#draft = draft;
    this.#file = file;
    this.#left = left;
  }

  /** Write the next numbers. @throws internal if they are more than the shape has room for. */
  async append(values: Float32Array): Promise<void> {
    if (values.length > this.#left) throw invariant(`${this.#path} has room for ${this.#left} numbers, got ${values.length}`);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    for (let done = 0; done < bytes.length; ) done += (await this.#file.write(bytes, done)).bytesWritten;
    this.#left -= values.length;
  }

  /** Give the file its name. @throws internal if numbers are missing. */
  async finish(): Promise<void> {
    if (this.#left > 0) throw invariant(`${this.#path} lacks ${this.#left} numbers`);
    await this.#file.close();
    await rename(this.#draft, this.#path);
  }

  /** Remove what was begun. */
  async discard(): Promise<void> {
    await this.#file.close();
    rmSync(this.#draft, { force: true });
  }
}

function header(shape: readonly number[]): Uint8Array {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${sizes}), }`;
  const start = 10; // Magic, version and the length of what follows.
  const length = Math.ceil((start + text.length + 1) / ALIGNMENT) * ALIGNMENT - start;
  const bytes = Buffer.alloc(start + length, " ");
  bytes.write("\x93NUMPY\x01\x00", "latin1");
  bytes.writeUInt16LE(length, 8);
  bytes.write(text, start, "latin1");
  bytes.write("\n", start + length - 1, "latin1");
  return bytes;
}
