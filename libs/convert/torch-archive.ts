import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { mismatch } from "#libs/errors/errors.js";
import { unpickle, type PickleValue } from "./pickle.js";
import { ELEMENT_BYTES, TensorSource, type ElementType, type StoredTensor } from "./tensor-source.js";
import { ZipArchive } from "./zip.js";

const STORAGE_TYPES: ReadonlyMap<string, ElementType> = new Map([
  ["torch.FloatStorage", "F32"], ["torch.HalfStorage", "F16"], ["torch.BFloat16Storage", "BF16"],
  ["torch.IntStorage", "I32"], ["torch.LongStorage", "I64"],
]);

/** Far beyond any real attribute path; a pickle whose objects hold one another would never end. */
const MAX_PATH_LENGTH = 1000;

/**
 * The arrays of a file that `torch.jit.save` wrote, parameters and buffers alike, named by their attribute paths
 * (`decoder.conv_in.weight`). The code inside the file is not looked at, the pickle is read as data.
 * Storages may be shared, offset and strided. Devices are ignored.
 * @throws mismatch if the file is no TorchScript archive, cut short or damaged.
 */
export async function readTorchArchive(path: string): Promise<TensorSource> {
  const label = basename(path);
  const bytes = await readFile(path).catch((cause: NodeJS.ErrnoException) => {
    throw mismatch(`${path} cannot be read (${cause.code})`);
  });
  const zip = new ZipArchive(label, bytes);
  const pickleName = zip.names.find((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickleName === undefined) throw mismatch(`${label}: no TorchScript archive, it has no data.pkl`);
  const root = pickleName.slice(0, -"data.pkl".length);
  if (zip.names.includes(`${root}byteorder`) && zip.read(`${root}byteorder`).toString() !== "little") {
    throw mismatch(`${label}: byte order must be little`);
  }
  const tensors = new Map<string, StoredTensor>();
  const readStorage = (key: string): Buffer => zip.read(`${root}data/${key}`);
  collectTensors(label, unpickle(label, zip.read(pickleName)), "", readStorage, tensors);
  return new TensorSource(label, tensors);
}

function collectTensors(
  label: string, value: PickleValue, path: string, readStorage: (key: string) => Buffer, tensors: Map<string, StoredTensor>,
): void {
  if (typeof value !== "object" || value === null || !("kind" in value)) return;
  if (path.length > MAX_PATH_LENGTH) throw mismatch(`${label}: its objects hold one another`);
  if (value.kind === "call" && value.name === "torch._utils._rebuild_tensor_v2") {
    tensors.set(path, parseTensor(label, path, value.args, readStorage));
  }
  if (value.kind !== "object" || !(value.state instanceof Map)) return;
  for (const [key, child] of value.state) {
    collectTensors(label, child, path === "" ? String(key) : `${path}.${String(key)}`, readStorage, tensors);
  }
}

/** Arguments: storage, offset, sizes, strides, then what only training needs. */
function parseTensor(label: string, path: string, args: PickleValue, readStorage: (key: string) => Buffer): StoredTensor {
  const [storage, offset, sizes, strides] = Array.isArray(args) ? args : [];
  const isReference = typeof storage === "object" && storage !== null && "kind" in storage && storage.kind === "reference";
  const id = isReference && Array.isArray(storage.id) ? storage.id : [];
  const [tag, storageType, key] = id;
  const typeName = typeof storageType === "object" && storageType !== null && "name" in storageType ? storageType.name : "";
  const type = STORAGE_TYPES.get(typeName);
  if (tag !== "storage" || typeof key !== "string" || typeof offset !== "number" || !isSizes(sizes) || !isSizes(strides)) {
    throw mismatch(`${label}: \`${path}\` is not stored as TorchScript does`);
  }
  if (type === undefined) {
    throw mismatch(`${label}: \`${path}\` must be stored as one of ${[...STORAGE_TYPES.keys()].join(", ")}, got ${typeName}`);
  }
  const last = sizes.reduce((at, size, axis) => at + (size - 1) * strides[axis], offset);
  return {
    type, shape: sizes,
    read: async () => {
      const bytes = readStorage(key);
      if (!sizes.includes(0) && (last + 1) * ELEMENT_BYTES[type] > bytes.length) {
        throw mismatch(`${label}: \`${path}\` reaches beyond its storage`);
      }
      return gather(bytes, ELEMENT_BYTES[type], offset, sizes, strides);
    },
  };
}

function isSizes(value: PickleValue): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && Number(size) >= 0);
}

/** Copy a strided view into a row-major buffer of its own. */
function gather(bytes: Buffer, width: number, offset: number, sizes: readonly number[], strides: readonly number[]): ArrayBuffer {
  const count = sizes.reduce((product, size) => product * size, 1);
  const out = new Uint8Array(count * width);
  if (isContiguous(sizes, strides)) {
    out.set(bytes.subarray(offset * width, (offset + count) * width));
    return out.buffer;
  }
  const index = sizes.map(() => 0);
  for (let done = 0, at = offset; done < count; done++) {
    out.set(bytes.subarray(at * width, (at + 1) * width), done * width);
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < sizes[axis]) break;
      at -= sizes[axis] * strides[axis];
      index[axis] = 0;
    }
  }
  return out.buffer;
}

function isContiguous(sizes: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let axis = sizes.length - 1; axis >= 0; axis--) {
    if (sizes[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= sizes[axis];
  }
  return true;
}
