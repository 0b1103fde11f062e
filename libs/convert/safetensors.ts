import { open, readFile, stat } from "node:fs/promises";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { mismatch } from "#libs/errors/errors.js";
import { ELEMENT_BYTES, TensorSource, type ElementType, type StoredTensor } from "./tensor-source.js";

/** As in the reference reader. */
const MAX_HEADER_BYTES = 100_000_000;

interface Entry {
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [begin: number, end: number];
}

/**
 * The arrays of a Hugging Face folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
 * Only headers are read here, arrays when they are asked for.
 * @throws mismatch if a file is cut short, malformed, or does not hold what the index says.
 * @see https://github.com/huggingface/safetensors#format
 */
export async function readSafetensorsFolder(folder: string): Promise<TensorSource> {
  const single = join(folder, "model.safetensors");
  if (existsSync(single)) return new TensorSource(basename(single), await readSafetensors(single));
  const indexPath = join(folder, "model.safetensors.index.json");
  if (!existsSync(indexPath)) throw mismatch(`${folder}: neither model.safetensors nor model.safetensors.index.json is there`);
  return new TensorSource(basename(indexPath), await readShards(indexPath));
}

/** The arrays of one file by name. @throws mismatch if it is cut short or malformed. */
export async function readSafetensors(path: string): Promise<ReadonlyMap<string, StoredTensor>> {
  const label = basename(path);
  const { size } = await stat(path);
  if (size < 8) throw mismatch(`${label}: cut short, ${size} bytes are no safetensors file`);
  const headerBytes = Number(new DataView(await readRange(path, 0, 8)).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || headerBytes + 8 > size) {
    throw mismatch(`${label}: cut short or no safetensors file, its header would take ${headerBytes} of ${size} bytes`);
  }
  const header = parseHeader(label, await readRange(path, 8, headerBytes));
  const start = 8 + headerBytes;
  checkCoverage(label, header, size - start);
  return new Map([...header].map(([name, { dtype, shape, data_offsets: [begin, end] }]) => [
    name, { type: dtype, shape, read: () => readRange(path, start + begin, end - begin) },
  ]));
}

async function readShards(indexPath: string): Promise<ReadonlyMap<string, StoredTensor>> {
  const label = basename(indexPath);
  const map = (parseJson(label, await readFile(indexPath, "utf8")) as { weight_map?: unknown }).weight_map;
  if (typeof map !== "object" || map === null) throw mismatch(`${label}: \`weight_map\` must be an object`);
  const fileOf = new Map(Object.entries(map));
  const tensors = new Map<string, StoredTensor>();
  for (const file of new Set(fileOf.values())) {
    if (typeof file !== "string" || file !== basename(file)) throw mismatch(`${label}: shards must be plain file names`);
    for (const [name, tensor] of await readSafetensors(join(dirname(indexPath), file))) {
      if (fileOf.get(name) !== file) throw mismatch(`${file}: holds \`${name}\`, which the index does not place there`);
      tensors.set(name, tensor);
    }
  }
  const missing = [...fileOf.keys()].find((name) => !tensors.has(name));
  if (missing !== undefined) throw mismatch(`${fileOf.get(missing)}: array \`${missing}\` is missing`);
  return tensors;
}

function parseHeader(label: string, buffer: ArrayBuffer): Map<string, Entry> {
  const header = parseJson(label, new TextDecoder().decode(buffer));
  if (typeof header !== "object" || header === null) throw mismatch(`${label}: the header must be an object`);
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  return new Map(entries.map(([name, entry]) => [name, checkEntry(label, name, (entry ?? {}) as Partial<Entry>)]));
}

function checkEntry(label: string, name: string, entry: Partial<Entry>): Entry {
  const { dtype, shape, data_offsets: offsets } = entry;
  if (dtype === undefined || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    throw mismatch(`${label}: \`${name}\` must be one of ${Object.keys(ELEMENT_BYTES).join(", ")}, got ${dtype}`);
  }
  const isSize = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize)) throw mismatch(`${label}: \`${name}\` has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw mismatch(`${label}: \`${name}\` has no valid data_offsets`);
  }
  const bytes = shape.reduce((product, size) => product * size, ELEMENT_BYTES[dtype]);
  if (offsets[1] - offsets[0] !== bytes) {
    throw mismatch(`${label}: \`${name}\` must take ${bytes} bytes, its data_offsets give ${offsets[1] - offsets[0]}`);
  }
  return { dtype, shape, data_offsets: [offsets[0], offsets[1]] };
}

/** The format allows neither holes nor overlaps nor bytes at the end. */
function checkCoverage(label: string, header: ReadonlyMap<string, Entry>, dataBytes: number): void {
  const ranges = [...header].sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1]);
  let end = 0;
  for (const [name, { data_offsets: range }] of ranges) {
    if (range[0] !== end) throw mismatch(`${label}: \`${name}\` must start at byte ${end} of the data, got ${range[0]}`);
    end = range[1];
  }
  if (end !== dataBytes) throw mismatch(`${label}: cut short or padded, its arrays take ${end} bytes but ${dataBytes} are there`);
}

function parseJson(label: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw mismatch(`${label}: is not valid JSON`);
  }
}

async function readRange(path: string, offset: number, length: number): Promise<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const file = await open(path);
  try {
    for (let done = 0; done < length; ) {
      const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 1 << 30), offset + done);
      if (bytesRead === 0) throw mismatch(`${basename(path)}: ends at byte ${offset + done}`);
      done += bytesRead;
    }
  } finally {
    await file.close();
  }
  return bytes.buffer;
}
