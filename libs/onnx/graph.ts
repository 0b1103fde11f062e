import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { invariant, unsupported } from "#libs/errors/errors.js";
import {
  AttributeProto_AttributeType as AttributeType, ModelProtoSchema, StringStringEntryProtoSchema,
  TensorProto_DataLocation as DataLocation, TensorProto_DataType as DataType, TensorProtoSchema,
  type AttributeProtoSchema, type NodeProtoSchema, type TensorProto, type ValueInfoProtoSchema,
} from "./schema/gen/onnx_pb.js";
import type { WeightFile } from "./weight-file.js";

/** Newest versions that the pieces here are written against. */
const STANDARD_OPSET = 21n;
const IR_VERSION = 10n;
const MAX_FILE_BYTES = 2 ** 31 - 1;

/** Constants from this size on may lie in a weight file; smaller ones are what shape inference wants to see. */
const LARGE_BYTES = 2 ** 16;
/** What large constants of one graph may take together before they move to its weight file. */
const MAX_INLINE_BYTES = 2 ** 26;

/** Element types of values and constants. */
export type ElementType = "float32" | "float16" | "int64" | "uint8" | "int8";

const DATA_TYPES: Readonly<Record<ElementType, DataType>> = {
  float32: DataType.FLOAT, float16: DataType.FLOAT16, int64: DataType.INT64, uint8: DataType.UINT8,
  int8: DataType.INT8,
};

/** The ONNX number of an element type, for `Cast`. */
export function dataTypeNumber(type: ElementType): number {
  return DATA_TYPES[type];
}

/** A value that flows through a graph: an input, a constant, or what an operator gives. */
export interface Value {
  readonly name: string;
}

/** Settings of an operator: whole numbers, lists of them, a text, or a number that the operator wants as float32. */
export type Attributes = Readonly<Record<string, number | readonly number[] | string | { readonly float: number }>>;

/** A constant's elements; `Uint16Array` holds float16 words. */
export type ConstantData = Float32Array | Uint16Array | BigInt64Array | Uint8Array | Int8Array;

/**
 * Builds one ONNX graph op by op. Operators run in the order in which they are added; equal calls give equal bytes.
 * Pieces of a network are functions that take a graph and values and add their operators.
 *
 * Constants are part of the graph's own file unless it has a weight file and those of 64 KiB and more pass 64 MiB
 * together: then these are written to the weight file as they come, and nothing of them is kept in memory.
 */
export class Graph {
  readonly #name: string;
  readonly #weightFile: WeightFile | undefined;
  readonly #inputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  readonly #outputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  readonly #nodes: MessageInitShape<typeof NodeProtoSchema>[] = [];
  readonly #constants: TensorProto[] = [];
  /** Large constants that are still in memory. */
  readonly #large: TensorProto[] = [];
  #largeBytes = 0;
  readonly #shared = new Map<string, Value>();
  readonly #nameCounts = new Map<string, number>();
  readonly #domains = new Set<string>([""]);
  #scope = "";

  /** @param weightFile where the constants of a large graph go; stays the caller's. Without one all are kept inside. */
  constructor(name: string, weightFile?: WeightFile) {
    this.#name = name;
    this.#weightFile = weightFile;
  }

  /** Run `body` with every new name under `name/`. */
  scope<T>(name: string, body: () => T): T {
    const outer = this.#scope;
    this.#scope = `${outer}${name}/`;
    try {
      return body();
    } finally {
      this.#scope = outer;
    }
  }

  /** @param dims sizes, or names of sizes that are only known when the graph runs. */
  input(name: string, type: ElementType, dims: readonly (number | string)[]): Value {
    this.#inputs.push(valueInfo(name, type, dims));
    return { name };
  }

  /** Make `value` an output called `name`. */
  output(name: string, value: Value, type: ElementType, dims: readonly (number | string)[]): void {
    this.#nodes.push({ name: `output/${name}`, opType: "Identity", input: [value.name], output: [name] });
    this.#outputs.push(valueInfo(name, type, dims));
  }

  /** A constant array, row-major. `data` is the graph's from here on: it may be kept until `toBytes`, or written at once. */
  constant(name: string, data: ConstantData, dims: readonly number[]): Value {
    const count = dims.reduce((product, size) => product * size, 1);
    if (count !== data.length) throw invariant(`constant ${name}: [${dims.join(", ")}] has ${count} elements, got ${data.length}`);
    const value = { name: this.#uniqueName(name) };
    this.#keep(tensorProto(value.name, data, dims));
    return value;
  }

  /** A small constant list of int64, the same value for equal lists. */
  ints(...values: readonly number[]): Value {
    return this.#share(`int64(${values.join(",")})`, () => ({ data: BigInt64Array.from(values, BigInt), dims: [values.length] }));
  }

  /** A float32 constant without dimensions, the same value for equal numbers. */
  float(value: number): Value {
    return this.#share(`float32(${value})`, () => ({ data: new Float32Array([value]), dims: [] }));
  }

  /** Add an operator with one output. Operators outside the standard are written with their domain, `com.microsoft.MatMulNBits`. */
  op(type: string, inputs: readonly Value[], attributes: Attributes = {}): Value {
    return this.ops(type, inputs, 1, attributes)[0];
  }

  /** Add an operator with several outputs. */
  ops(type: string, inputs: readonly Value[], outputCount: number, attributes: Attributes = {}): readonly Value[] {
    const dot = type.lastIndexOf(".");
    const domain = type.slice(0, Math.max(0, dot));
    this.#domains.add(domain);
    const opType = type.slice(dot + 1);
    const name = this.#uniqueName(opType);
    const output = Array.from({ length: outputCount }, (_, index) => (outputCount === 1 ? name : `${name}:${index}`));
    this.#nodes.push({ name, opType, domain, input: inputs.map((input) => input.name), output, attribute: attributeList(attributes) });
    return output.map((each) => ({ name: each }));
  }

  /** The graph as an ONNX file. @throws unsupported if the constants inside would pass the format's 2 GiB. */
  toBytes(): Uint8Array {
    const bytes = this.#constants.reduce((sum, { rawData }) => sum + rawData.length, 0);
    if (bytes > MAX_FILE_BYTES) {
      throw unsupported(`graph ${this.#name} has ${bytes} bytes of constants, one file holds ${MAX_FILE_BYTES}: give it a weight file`);
    }
    return toBinary(ModelProtoSchema, create(ModelProtoSchema, {
      irVersion: IR_VERSION,
      producerName: "tessera",
      opsetImport: [...this.#domains].sort().map((domain) => ({ domain, version: domain === "" ? STANDARD_OPSET : 1n })),
      graph: {
        name: this.#name, node: this.#nodes, initializer: this.#constants,
        input: this.#inputs, output: this.#outputs,
      },
    }));
  }

  #share(name: string, make: () => { data: ConstantData; dims: readonly number[] }): Value {
    const existing = this.#shared.get(name);
    if (existing !== undefined) return existing;
    const { data, dims } = make();
    this.#keep(tensorProto(name, data, dims));
    this.#shared.set(name, { name });
    return { name };
  }

  #keep(constant: TensorProto): void {
    this.#constants.push(constant);
    if (constant.rawData.length < LARGE_BYTES) return;
    this.#large.push(constant);
    this.#largeBytes += constant.rawData.length;
    if (this.#weightFile === undefined || this.#largeBytes <= MAX_INLINE_BYTES) return;
    for (const each of this.#large.splice(0)) moveOut(each, this.#weightFile);
  }

  #uniqueName(name: string): string {
    const scoped = this.#scope + name;
    const count = this.#nameCounts.get(scoped) ?? 0;
    this.#nameCounts.set(scoped, count + 1);
    return count === 0 ? scoped : `${scoped}.${count}`;
  }
}

function elementTypeOf(data: ConstantData): ElementType {
  if (data instanceof Float32Array) return "float32";
  if (data instanceof Uint16Array) return "float16";
  if (data instanceof BigInt64Array) return "int64";
  return data instanceof Int8Array ? "int8" : "uint8";
}

function tensorProto(name: string, data: ConstantData, dims: readonly number[]): TensorProto {
  const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return create(TensorProtoSchema, { name, dataType: DATA_TYPES[elementTypeOf(data)], dims: dims.map(BigInt), rawData });
}

/** Let a constant say where its bytes are instead of holding them. */
function moveOut(constant: TensorProto, file: WeightFile): void {
  const { location, offset, length } = file.append(constant.rawData);
  const fields = Object.entries({ location, offset: String(offset), length: String(length) });
  constant.rawData = new Uint8Array();
  constant.dataLocation = DataLocation.EXTERNAL;
  constant.externalData = fields.map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
}

function valueInfo(
  name: string, type: ElementType, dims: readonly (number | string)[],
): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = dims.map((size) => ({
    value: typeof size === "string" ? { case: "dimParam" as const, value: size } : { case: "dimValue" as const, value: BigInt(size) },
  }));
  return { name, type: { value: { case: "tensorType", value: { elemType: DATA_TYPES[type], shape: { dim } } } } };
}

function attributeList(attributes: Attributes): MessageInitShape<typeof AttributeProtoSchema>[] {
  return Object.entries(attributes).map(([name, value]) => {
    if (typeof value === "string") return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
    if (typeof value === "number") return { name, type: AttributeType.INT, i: BigInt(value) };
    if ("float" in value) return { name, type: AttributeType.FLOAT, f: value.float };
    return { name, type: AttributeType.INTS, ints: value.map(BigInt) };
  });
}
