import { closeSync, openSync, writeSync } from "node:fs";
import { basename } from "node:path";

/** A page of memory: what starts at one can be mapped from the file instead of read. */
const ALIGNMENT = 4096;
/** One write call takes less than 2 GiB. */
const MAX_WRITE_BYTES = 2 ** 30;

/** Where a constant's bytes lie, as an ONNX graph writes it down. */
export interface WeightPlace {
  /** File name, relative to the graph's folder. */
  readonly location: string;
  /** A multiple of 4096. */
  readonly offset: number;
  readonly length: number;
}

/**
 * The file beside a graph that holds its large constants. Bytes are written when they come and not kept, so that a graph's
 * weights may be larger than memory. The file comes into being with the first of them; whoever made this closes it.
 * @see https://onnx.ai/onnx/repo-docs/ExternalData.html
 */
export class WeightFile {
  readonly #path: string;
  #descriptor: number | undefined;
  #end = 0;

  /** @param path in the folder of the graph, e.g. `transformer.onnx.data`; an older file there is replaced. */
  constructor(path: string) {
    this.#path = path;
  }

  /** Write `bytes` at the next page; they are the caller's again afterwards. @throws what the file system refuses. */
  append(bytes: Uint8Array): WeightPlace {
    this.#descriptor ??= openSync(this.#path, "w");
    const offset = Math.ceil(this.#end / ALIGNMENT) * ALIGNMENT;
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#descriptor, bytes, done, Math.min(bytes.length - done, MAX_WRITE_BYTES), offset + done);
    }
    this.#end = offset + bytes.length;
    return { location: basename(this.#path), offset, length: bytes.length };
  }

  /** May be called again. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}
