import { open, type FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { AppError, mismatch } from "#libs/errors/errors.js";

/** One read call takes less than 2 GiB. */
const MAX_READ_BYTES = 2 ** 30;

/** Bytes of a file. @throws mismatch naming the file if it cannot be read. */
export async function fileSize(path: string): Promise<number> {
  return withFile(path, async (file) => (await file.stat()).size);
}

/** Fill `target` with the file's bytes from `offset` on. @throws mismatch if it ends earlier or cannot be read. */
export async function readInto(path: string, offset: number, target: Uint8Array): Promise<void> {
  await withFile(path, async (file) => {
    for (let done = 0; done < target.length; ) {
      const { bytesRead } = await file.read(target, done, Math.min(target.length - done, MAX_READ_BYTES), offset + done);
      if (bytesRead === 0) throw mismatch(`${basename(path)}: ends at byte ${offset + done}`);
      done += bytesRead;
    }
  });
}

/** `length` bytes from `offset` on; the caller has made sure that the file has them. */
export async function readRange(path: string, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await readInto(path, offset, bytes);
  return bytes;
}

/** A whole text file. @throws mismatch if it is larger than `maxBytes` or cannot be read. */
export async function readText(path: string, maxBytes: number): Promise<string> {
  const size = await fileSize(path);
  if (size > maxBytes) throw mismatch(`${basename(path)}: must have at most ${maxBytes} bytes, got ${size}`);
  return (await readRange(path, 0, size)).toString("utf8");
}

async function withFile<T>(path: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle | undefined;
  try {
    file = await open(path);
    return await work(file);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw mismatch(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  } finally {
    await file?.close();
  }
}
