import { crc32 } from "node:zlib";
import { mismatch } from "#libs/errors/errors.js";

const END_BYTES = 22;
const END_SIGNATURE = 0x06054b50;
const END64_LOCATOR_BYTES = 20;
const END64_LOCATOR_SIGNATURE = 0x07064b50;
const END64_SIGNATURE = 0x06064b50;
const ENTRY_SIGNATURE = 0x02014b50;
const ENTRY_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const ZIP64_FIELD = 0x0001;
const UINT32_MAX = 0xffffffff;

interface Entry {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  readonly storedBytes: number;
  readonly localOffset: number;
}

/** A zip file in memory, 64-bit records included. Only what is stored uncompressed can be read: that is what holds weights. */
export class ZipArchive {
  readonly #label: string;
  readonly #bytes: Buffer;
  readonly #entries: ReadonlyMap<string, Entry>;

  /** @param label what errors call the file. @throws mismatch if it is no zip file or cut short. */
  constructor(label: string, bytes: Buffer) {
    this.#label = label;
    this.#bytes = bytes;
    this.#entries = this.#guarded(() => new Map(this.#readDirectory().map((entry) => [entry.name, entry])));
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** The bytes of one entry, a view of the file. @throws mismatch if it is missing, compressed or damaged. */
  read(name: string): Buffer {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw mismatch(`${this.#label}: entry \`${name}\` is missing`);
    if (entry.method !== 0) throw mismatch(`${this.#label}: entry \`${name}\` must be stored uncompressed`);
    const data = this.#guarded(() => {
      const at = entry.localOffset;
      if (this.#bytes.readUInt32LE(at) !== LOCAL_SIGNATURE) throw new RangeError("no local header");
      const start = at + LOCAL_BYTES + this.#bytes.readUInt16LE(at + 26) + this.#bytes.readUInt16LE(at + 28);
      if (start + entry.storedBytes > this.#bytes.length) throw new RangeError("beyond the end");
      return this.#bytes.subarray(start, start + entry.storedBytes);
    });
    if (crc32(data) !== entry.crc) throw mismatch(`${this.#label}: entry \`${name}\` is damaged, its checksum differs`);
    return data;
  }

  #readDirectory(): readonly Entry[] {
    let { count, offset } = this.#findDirectory();
    const entries: Entry[] = [];
    for (; count > 0; count--) {
      const bytes = this.#bytes;
      if (bytes.readUInt32LE(offset) !== ENTRY_SIGNATURE) throw new RangeError("no directory entry");
      const nameBytes = bytes.readUInt16LE(offset + 28);
      const extraBytes = bytes.readUInt16LE(offset + 30);
      const extraAt = offset + ENTRY_BYTES + nameBytes;
      const name = bytes.toString("utf8", offset + ENTRY_BYTES, extraAt);
      entries.push({ name, ...this.#readSizes(offset, bytes.subarray(extraAt, extraAt + extraBytes)) });
      offset = extraAt + extraBytes + bytes.readUInt16LE(offset + 32);
    }
    return entries;
  }

  /** 32-bit fields that are all ones continue, in this order, in the 64-bit extra field. */
  #readSizes(offset: number, extra: Buffer): Omit<Entry, "name"> {
    const wide = extraField(extra, ZIP64_FIELD);
    let used = 0;
    const field = (at: number): number => {
      const narrow = this.#bytes.readUInt32LE(offset + at);
      if (narrow !== UINT32_MAX) return narrow;
      used += 8;
      return Number(wide.readBigUInt64LE(used - 8));
    };
    field(24); // Uncompressed size: comes first in the extra field, equals the stored size of an uncompressed entry.
    const storedBytes = field(20);
    const localOffset = field(42);
    return { method: this.#bytes.readUInt16LE(offset + 10), crc: this.#bytes.readUInt32LE(offset + 16), storedBytes, localOffset };
  }

  #findDirectory(): { count: number; offset: number } {
    const bytes = this.#bytes;
    const lowest = Math.max(0, bytes.length - END_BYTES - 0xffff);
    let end = bytes.length - END_BYTES;
    while (end >= lowest && bytes.readUInt32LE(end) !== END_SIGNATURE) end--;
    if (end < lowest) throw new RangeError("no end record");
    const locator = end - END64_LOCATOR_BYTES;
    if (locator < 0 || bytes.readUInt32LE(locator) !== END64_LOCATOR_SIGNATURE) {
      return { count: bytes.readUInt16LE(end + 10), offset: bytes.readUInt32LE(end + 16) };
    }
    const end64 = Number(bytes.readBigUInt64LE(locator + 8));
    if (bytes.readUInt32LE(end64) !== END64_SIGNATURE) throw new RangeError("no 64-bit end record");
    return { count: Number(bytes.readBigUInt64LE(end64 + 32)), offset: Number(bytes.readBigUInt64LE(end64 + 48)) };
  }

  #guarded<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw mismatch(`${this.#label}: cut short, damaged or no zip file`);
    }
  }
}

function extraField(extra: Buffer, id: number): Buffer {
  for (let at = 0; at + 4 <= extra.length; ) {
    const length = extra.readUInt16LE(at + 2);
    if (extra.readUInt16LE(at) === id) return extra.subarray(at + 4, at + 4 + length);
    at += 4 + length;
  }
  return extra.subarray(0, 0);
}
