import { basename } from "node:path";
import { crc32 } from "node:zlib";
import { mismatch } from "#libs/errors/errors.js";
import { fileSize, readRange } from "./file-range.js";

const END_BYTES = 22;
const END_SIGNATURE = 0x06054b50;
const END64_LOCATOR_BYTES = 20;
const END64_LOCATOR_SIGNATURE = 0x07064b50;
const END64_BYTES = 56;
const END64_SIGNATURE = 0x06064b50;
const ENTRY_SIGNATURE = 0x02014b50;
const ENTRY_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const ZIP64_FIELD = 0x0001;
const UINT32_MAX = 0xffffffff;
const MAX_COMMENT_BYTES = 0xffff;
/** Some hundred thousand entries; a checkpoint has some hundred. */
const MAX_DIRECTORY_BYTES = 2 ** 24;

interface Entry {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  readonly bytes: number;
  readonly storedBytes: number;
  readonly localOffset: number;
}

/**
 * A zip file, 64-bit records included. Only its directory is kept in memory, and only what is stored uncompressed can be
 * read: that is what holds weights. Nothing is ever unpacked, neither to memory nor to disk.
 * @see https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 */
export class ZipArchive {
  readonly #path: string;
  readonly #label: string;
  readonly #entries: ReadonlyMap<string, Entry>;

  private constructor(path: string, entries: ReadonlyMap<string, Entry>) {
    this.#path = path;
    this.#label = basename(path);
    this.#entries = entries;
  }

  /** @throws mismatch if the file is no zip file, cut short, or has entries of one name or with a path that leads elsewhere. */
  static async open(path: string): Promise<ZipArchive> {
    const label = basename(path);
    const entries = new Map<string, Entry>();
    for (const entry of await guarded(label, () => readDirectory(path))) {
      if (!isPlainPath(entry.name)) throw mismatch(`${label}: entry ${JSON.stringify(entry.name)} must lie inside the archive`);
      if (entries.has(entry.name)) throw mismatch(`${label}: entry \`${entry.name}\` is there twice`);
      entries.set(entry.name, entry);
    }
    return new ZipArchive(path, entries);
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** Bytes of one entry. @throws mismatch if it is missing or compressed. */
  size(name: string): number {
    return this.#stored(name).bytes;
  }

  /** The bytes of one entry. @throws mismatch if it is missing, compressed, damaged, or larger than `maxBytes`. */
  async read(name: string, maxBytes = Infinity): Promise<Buffer> {
    const { bytes, localOffset, crc } = this.#stored(name);
    if (bytes > maxBytes) throw mismatch(`${this.#label}: entry \`${name}\` must have at most ${maxBytes} bytes, got ${bytes}`);
    const start = await guarded(this.#label, async () => {
      const local = await readRange(this.#path, localOffset, LOCAL_BYTES);
      if (local.readUInt32LE(0) !== LOCAL_SIGNATURE) throw new RangeError("no local header");
      const dataOffset = localOffset + LOCAL_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28);
      if (dataOffset + bytes > (await fileSize(this.#path))) throw new RangeError("beyond the end");
      return dataOffset;
    });
    const data = await readRange(this.#path, start, bytes);
    if (crc32(data) !== crc) throw mismatch(`${this.#label}: entry \`${name}\` is damaged, its checksum differs`);
    return data;
  }

  #stored(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw mismatch(`${this.#label}: entry \`${name}\` is missing`);
    if (entry.method !== 0 || entry.bytes !== entry.storedBytes) {
      throw mismatch(`${this.#label}: entry \`${name}\` must be stored uncompressed`);
    }
    return entry;
  }
}

function isPlainPath(name: string): boolean {
  return name !== "" && !/[\\\0:]/.test(name) && !name.startsWith("/") && !name.split("/").includes("..");
}

async function readDirectory(path: string): Promise<readonly Entry[]> {
  const size = await fileSize(path);
  const { count, offset, bytes } = await findDirectory(path, size);
  if (bytes > MAX_DIRECTORY_BYTES || count * ENTRY_BYTES > bytes || offset + bytes > size) throw new RangeError("no directory");
  const directory = await readRange(path, offset, bytes);
  const entries: Entry[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (directory.readUInt32LE(at) !== ENTRY_SIGNATURE) throw new RangeError("no directory entry");
    const extraAt = at + ENTRY_BYTES + directory.readUInt16LE(at + 28);
    const end = extraAt + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    if (end > bytes) throw new RangeError("beyond the directory");
    const entry = parseEntry(directory.subarray(at, extraAt), directory.subarray(extraAt, end));
    if (entry.localOffset + LOCAL_BYTES + entry.storedBytes > offset) throw new RangeError("data inside the directory");
    entries.push(entry);
    at = end;
  }
  if (at !== bytes) throw new RangeError("more directory than entries");
  return entries;
}

/** 32-bit sizes that are all ones continue, in this order, in the 64-bit extra field. */
function parseEntry(header: Buffer, extra: Buffer): Entry {
  const wide = extraField(extra, ZIP64_FIELD);
  let used = 0;
  const field = (at: number): number => {
    const narrow = header.readUInt32LE(at);
    if (narrow !== UINT32_MAX) return narrow;
    used += 8;
    return Number(wide.readBigUInt64LE(used - 8));
  };
  const bytes = field(24);
  const storedBytes = field(20);
  const localOffset = field(42);
  const name = header.toString("utf8", ENTRY_BYTES);
  return { name, method: header.readUInt16LE(10), crc: header.readUInt32LE(16), bytes, storedBytes, localOffset };
}

async function findDirectory(path: string, size: number): Promise<{ count: number; offset: number; bytes: number }> {
  const tailBytes = Math.min(size, END64_LOCATOR_BYTES + END_BYTES + MAX_COMMENT_BYTES);
  const tail = await readRange(path, size - tailBytes, tailBytes);
  let end = tail.length - END_BYTES;
  while (end >= 0 && tail.readUInt32LE(end) !== END_SIGNATURE) end--;
  if (end < 0) throw new RangeError("no end record");
  const locator = end - END64_LOCATOR_BYTES;
  if (locator < 0 || tail.readUInt32LE(locator) !== END64_LOCATOR_SIGNATURE) {
    return { count: tail.readUInt16LE(end + 10), bytes: tail.readUInt32LE(end + 12), offset: tail.readUInt32LE(end + 16) };
  }
  const at = Number(tail.readBigUInt64LE(locator + 8));
  if (at + END64_BYTES > size) throw new RangeError("no 64-bit end record");
  const end64 = await readRange(path, at, END64_BYTES);
  if (end64.readUInt32LE(0) !== END64_SIGNATURE) throw new RangeError("no 64-bit end record");
  const field = (offset: number): number => Number(end64.readBigUInt64LE(offset));
  return { count: field(32), bytes: field(40), offset: field(48) };
}

function extraField(extra: Buffer, id: number): Buffer {
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === id) return extra.subarray(at + 4, at + 4 + length);
    at += 4 + length;
  }
  return extra.subarray(0, 0);
}

/** A field that lies outside what was read is the file's fault. */
async function guarded<T>(label: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw mismatch(`${label}: cut short, damaged or no zip file`);
  }
}
