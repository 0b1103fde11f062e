import { access, constants, lstat, mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, parse } from "node:path";
import { AppError } from "#libs/errors/errors.js";

const DEFAULT_FOLDER = "out";
const MAX_SLUG_LENGTH = 48;
const NEW_FILE = { isPlain: true, mode: 0o666 };

/** Where a picture goes if nobody says: `out/three-red-apples-42.png`. */
export function defaultOutFile(prompt: string, seed: bigint): string {
  const words = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, MAX_SLUG_LENGTH).replace(/^-|-$/g, "");
  return join(DEFAULT_FOLDER, `${words || "image"}-${seed}.png`);
}

/** Where one of several pictures goes: `apples.png` -> `apples-0.png`. */
export function numberedFile(file: string, imageIndex: number): string {
  const { dir, name, ext } = parse(file);
  return join(dir, `${name}-${imageIndex}${ext}`);
}

/** Where a preview goes: image 0 after 3 rows -> `0-003.jpg`, so that they sort by time. */
export function previewFile(folder: string, imageIndex: number, rowsDone: number): string {
  return join(folder, `${imageIndex}-${String(rowsDone).padStart(3, "0")}.jpg`);
}

/**
 * Make the folders that lead to a file which will be written when there is something to write.
 * @throws AppError `permission-denied` naming the file if it could not be written.
 */
export function checkOutFile(file: string): Promise<void> {
  return writing(file, async () => {
    const there = await stat(file).catch(() => undefined);
    if (there?.isDirectory()) throw new Error("it is a folder");
    if (there !== undefined) await access(file, constants.W_OK);
    if (there === undefined || (await lstat(file)).isFile()) await access(dirname(file), constants.W_OK);
  });
}

/**
 * Write a file, and the folders that lead to it.
 * @throws AppError `permission-denied` naming the file if it cannot be written.
 */
export function writeOutFile(file: string, data: Uint8Array): Promise<void> {
  const draft = `${file}.part`;
  return writing(file, async () => {
    const { isPlain, mode } = await lstat(file).then((there) => ({ isPlain: there.isFile(), mode: there.mode }), () => NEW_FILE);
    // A device, a pipe or a link stays what it is.
    if (!isPlain) return writeFile(file, data);
    // Whole or not at all: what was there stays until the new file is complete.
    try {
      await writeFile(draft, data, { mode: mode & 0o777 });
      await rename(draft, file);
    } catch (error) {
      await rm(draft, { force: true });
      throw error;
    }
  });
}

async function writing(file: string, write: () => Promise<void>): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true });
    await write();
  } catch (error) {
    throw new AppError("permission-denied", `cannot write ${file}: ${(error as Error).message}`, { cause: error });
  }
}
