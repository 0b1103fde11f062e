import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { mismatch } from "#libs/errors/errors.js";
import { duplicateKey } from "#libs/json/duplicate-key.js";
import { fileSize, readInto, readRange, readText } from "./file-range.js";
import { elementCount, ELEMENT_BYTES, TensorSource, type ElementType, type ReadObserver, type StoredTensor } from "./tensor-source.js";

/** A hundred thousand arrays fit in; a checkpoint has some hundred. */
const MAX_HEADER_BYTES = 2 ** 24;

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
export async function readSafetensorsFolder(folder: string, onRead?: ReadObserver): Promise<TensorSource> {
  const single = join(folder, "model.safetensors");
  if (existsSync(single)) return new TensorSource(basename(single), await readSafetensors(single), onRead);
  const indexPath = join(folder, "model.safetensors.index.json");
  if (!existsSync(indexPath)) throw mismatch(`${folder}: neither model.safetensors nor model.safetensors.index.json is there`);
  return new TensorSource(basename(indexPath), await readShards(indexPath), onRead);
}

/** The arrays of one file by name. @throws mismatch if it is cut short or malformed. */
export async function readSafetensors(path: string): Promise<ReadonlyMap<string, StoredTensor>> {
  const label = basename(path);
  const size = await fileSize(path);
  if (size < 8) throw mismatch(`${label}: cut short, ${size} bytes are no safetensors file`);
  const headerBytes = Number((await readRange(path, 0, 8)).readBigUInt64LE());
  if (headerBytes + 8 > size) {
    throw mismatch(`${label}: cut short or no safetensors file, its header would take ${headerBytes} of ${size} bytes`);
  }
  if (headerBytes > MAX_HEADER_BYTES) {
    throw mismatch(`${label}: its header must take at most ${MAX_HEADER_BYTES} bytes, got ${headerBytes}`);
  }
  const header = parseHeader(label, (await readRange(path, 8, headerBytes)).toString("utf8"));
  const start = 8 + headerBytes;
  checkCoverage(label, header, size - start);
  return new Map([...header].map(([name, { dtype, shape, data_offsets: [begin] }]) => [
    name, { type: dtype, shape, read: (target, first) => readInto(path, start + begin + first * ELEMENT_BYTES[dtype], target) },
  ]));
}

async function readShards(indexPath: string): Promise<ReadonlyMap<string, StoredTensor>> {
  const label = basename(indexPath);
  const index = parseObject(label, await readText(indexPath, MAX_HEADER_BYTES));
  const { weight_map: map } = index as { readonly weight_map?: unknown };
  if (typeof map !== "object" || map === null || Array.isArray(map)) throw mismatch(`${label}: \`weight_map\` must be an object`);
  const fileOf = new Map<string, unknown>(Object.entries(map));
  const tensors = new Map<string, StoredTensor>();
  for (const file of new Set(fileOf.values())) {
    if (typeof file !== "string" || !/^\w[\w.-]*$/.test(file)) throw mismatch(`${label}: shards must be plain file names`);
    for (const [name, tensor] of await readSafetensors(join(dirname(indexPath), file))) {
      if (fileOf.get(name) !== file) throw mismatch(`${file}: holds \`${name}\`, which the index does not place there`);
      tensors.set(name, tensor);
    }
  }
  const missing = [...fileOf.keys()].find((name) => !tensors.has(name));
  if (missing !== undefined) throw mismatch(`${String(fileOf.get(missing))}: array \`${missing}\` is missing`);
  return tensors;
}

function parseHeader(label: string, text: string): Map<string, Entry> {
  const entries = Object.entries(parseObject(label, text)).filter(([name]) => name !== "__metadata__");
  return new Map(entries.map(([name, entry]) => [name, checkEntry(label, name, (entry ?? {}) as Partial<Entry>)]));
}

function checkEntry(label: string, name: string, entry: Partial<Entry>): Entry {
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(ELEMENT_BYTES, dtype)) {
    const got: string = typeof dtype === "string" ? dtype : typeof dtype;
    throw mismatch(`${label}: \`${name}\` must be one of ${Object.keys(ELEMENT_BYTES).join(", ")}, got ${got}`);
  }
  const isSize = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize)) throw mismatch(`${label}: \`${name}\` has no valid shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw mismatch(`${label}: \`${name}\` has no valid data_offsets`);
  }
  const bytes = elementCount(shape) * ELEMENT_BYTES[dtype];
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

function parseObject(label: string, text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw mismatch(`${label}: is not valid JSON`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw mismatch(`${label}: the header must be an object`);
  const twice = duplicateKey(text);
  if (twice !== undefined) throw mismatch(`${label}: \`${twice}\` is there twice`);
  return value;
}
