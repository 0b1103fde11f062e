import { basename } from "node:path";
import { mismatch } from "#libs/errors/errors.js";
import { gather, isContiguous } from "./gather.js";
import { unpickle, type PickleValue } from "./pickle.js";
import { elementCount, ELEMENT_BYTES, TensorSource, type ElementType, type ReadObserver, type StoredTensor } from "./tensor-source.js";
import { ZipArchive } from "./zip.js";

const STORAGE_TYPES: ReadonlyMap<string, ElementType> = new Map([
  ["torch.FloatStorage", "F32"], ["torch.HalfStorage", "F16"], ["torch.BFloat16Storage", "BF16"],
  ["torch.IntStorage", "I32"], ["torch.LongStorage", "I64"],
]);

/** Far beyond any real network: a hostile pickle's objects may hold one another in circles, or each twice in the next. */
const MAX_PICKLE_BYTES = 2 ** 24;
const MAX_DEPTH = 64;
const MAX_OBJECTS = 100_000;

/**
 * The arrays of a file that `torch.jit.save` wrote, parameters and buffers alike, named by their attribute paths
 * (`decoder.conv_in.weight`). The code inside the file is not looked at, the pickle is read as data.
 * Storages may be shared, offset and strided. Devices are ignored. Storages are read when their arrays are asked for.
 * @throws mismatch if the file is no TorchScript archive, cut short or damaged, or has arrays that reach beyond their storage.
 */
export async function readTorchArchive(path: string, onRead?: ReadObserver): Promise<TensorSource> {
  const label = basename(path);
  const zip = await ZipArchive.open(path);
  const [pickleName, ...others] = zip.names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickleName === undefined || others.length > 0) throw mismatch(`${label}: no TorchScript archive, it must have one data.pkl`);
  const root = pickleName.slice(0, -"data.pkl".length);
  if (zip.names.includes(`${root}byteorder`) && (await zip.read(`${root}byteorder`, 16)).toString() !== "little") {
    throw mismatch(`${label}: byte order must be little`);
  }
  const pickle = unpickle(label, await zip.read(pickleName, MAX_PICKLE_BYTES));
  return new TensorSource(label, new ArrayCollector(label, new Storages(zip, `${root}data/`)).collect(pickle), onRead);
}

/** The storages of an archive. Keeps the last one that an array used a part of: its neighbours are likely asked for next. */
class Storages {
  readonly #zip: ZipArchive;
  readonly #folder: string;
  #last: { readonly key: string; readonly bytes: Buffer } | undefined;

  constructor(zip: ZipArchive, folder: string) {
    this.#zip = zip;
    this.#folder = folder;
  }

  size(key: string): number {
    return this.#zip.size(this.#folder + key);
  }

  async read(key: string, isShared: boolean): Promise<Buffer> {
    if (this.#last?.key === key) return this.#last.bytes;
    this.#last = undefined;
    const bytes = await this.#zip.read(this.#folder + key);
    if (isShared) this.#last = { key, bytes };
    return bytes;
  }
}

/** Walks the objects of a pickle for their arrays. */
class ArrayCollector {
  readonly #label: string;
  readonly #storages: Storages;
  readonly #tensors = new Map<string, StoredTensor>();
  #objects = 0;

  constructor(label: string, storages: Storages) {
    this.#label = label;
    this.#storages = storages;
  }

  collect(root: PickleValue): ReadonlyMap<string, StoredTensor> {
    this.#visit(root, []);
    return this.#tensors;
  }

  #visit(value: PickleValue, path: readonly string[]): void {
    if (typeof value !== "object" || value === null || !("kind" in value)) return;
    if (path.length > MAX_DEPTH || ++this.#objects > MAX_OBJECTS) {
      throw mismatch(`${this.#label}: its objects nest too deep, are too many, or hold one another`);
    }
    if (value.kind === "call" && value.name === "torch._utils._rebuild_tensor_v2") this.#add(path.join("."), value.args);
    if (value.kind !== "object" || !(value.state instanceof Map)) return;
    for (const [key, child] of value.state) {
      if (typeof key !== "string" || key === "") throw mismatch(`${this.#label}: \`${path.join(".")}\` has an attribute without a name`);
      this.#visit(child, [...path, key]);
    }
  }

  #add(name: string, args: PickleValue): void {
    if (this.#tensors.has(name)) throw mismatch(`${this.#label}: array \`${name}\` is there twice`);
    this.#tensors.set(name, this.#parse(name, args));
  }

  /** Arguments: storage, offset, sizes, strides, then what only training needs. */
  #parse(name: string, args: PickleValue): StoredTensor {
    const [storage, offset, sizes, strides] = Array.isArray(args) ? args : [];
    const { type, key, storedCount } = this.#parseStorage(name, storage);
    if (!isSize(offset) || !isSizes(sizes) || !isSizes(strides) || sizes.length !== strides.length) {
      throw mismatch(`${this.#label}: \`${name}\` is not stored as TorchScript does`);
    }
    const count = elementCount(sizes);
    const last = sizes.reduce((at, size, axis) => at + (size - 1) * strides[axis], offset);
    // A stride of zero could blow a few bytes up to any size.
    if (count > 0 && (last >= storedCount || count > storedCount)) {
      throw mismatch(`${this.#label}: \`${name}\` reaches beyond its storage`);
    }
    const layout = { sizes, strides };
    const width = ELEMENT_BYTES[type];
    return { type, shape: sizes, read: async (target, first) => {
      const bytes = await this.#storages.read(key, count < storedCount);
      const start = (offset + first) * width;
      if (isContiguous(layout)) target.set(bytes.subarray(start, start + target.length));
      else gather(bytes, width, offset, layout, first, target);
    } };
  }

  /** A storage is named by `("storage", its class, its entry, device, number of elements)`. */
  #parseStorage(name: string, storage: PickleValue): { readonly type: ElementType; readonly key: string; readonly storedCount: number } {
    const isReference = typeof storage === "object" && storage !== null && "kind" in storage && storage.kind === "reference";
    const [tag, storageType, key, , storedCount] = isReference && Array.isArray(storage.id) ? storage.id : [];
    const typeName = typeof storageType === "object" && storageType !== null && "name" in storageType ? storageType.name : "";
    if (tag !== "storage" || typeof key !== "string" || !isSize(storedCount)) {
      throw mismatch(`${this.#label}: \`${name}\` is not stored as TorchScript does`);
    }
    const type = STORAGE_TYPES.get(typeName);
    if (type === undefined) {
      throw mismatch(`${this.#label}: \`${name}\` must be stored as one of ${[...STORAGE_TYPES.keys()].join(", ")}, got ${typeName}`);
    }
    const bytes = this.#storages.size(key);
    if (bytes !== storedCount * ELEMENT_BYTES[type]) {
      throw mismatch(`${this.#label}: storage ${key} of \`${name}\` must have ${storedCount * ELEMENT_BYTES[type]} bytes, got ${bytes}`);
    }
    return { type, key, storedCount };
  }
}

function isSize(value: PickleValue | undefined): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isSizes(value: PickleValue | undefined): value is number[] {
  return Array.isArray(value) && value.every(isSize);
}
