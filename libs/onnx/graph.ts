import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { invariant, unsupported } from "#libs/errors/errors.js";
import {
  AttributeProto_AttributeType as AttributeType, ModelProtoSchema, TensorProto_DataType as DataType,
  type AttributeProtoSchema, type NodeProtoSchema, type TensorProtoSchema, type ValueInfoProtoSchema,
} from "./schema/gen/onnx_pb.js";

/** Newest versions that the pieces here are written against. */
const STANDARD_OPSET = 21n;
const IR_VERSION = 10n;
const MAX_FILE_BYTES = 2 ** 31 - 1;

/** Element types of values and constants. */
export type ElementType = "float32" | "float16" | "int64" | "uint8";

const DATA_TYPES: Readonly<Record<ElementType, DataType>> = {
  float32: DataType.FLOAT, float16: DataType.FLOAT16, int64: DataType.INT64, uint8: DataType.UINT8,
};

/** The ONNX number of an element type, for `Cast`. */
export function dataTypeNumber(type: ElementType): number {
  return DATA_TYPES[type];
}

/** A value that flows through a graph: an input, a constant, or what an operator gives. */
export interface Value {
  readonly name: string;
}

/** Settings of an operator: whole numbers, lists of them, or a text. */
export type Attributes = Readonly<Record<string, number | readonly number[] | string>>;

/** A constant's elements; `Uint16Array` holds float16 words. */
export type ConstantData = Float32Array | Uint16Array | BigInt64Array | Uint8Array;

interface Constant {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: ConstantData;
}

/**
 * Builds one ONNX graph op by op. Operators run in the order in which they are added; equal calls give equal bytes.
 * Pieces of a network are functions that take a graph and values and add their operators.
 */
export class Graph {
  readonly #name: string;
  readonly #inputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  readonly #outputs: MessageInitShape<typeof ValueInfoProtoSchema>[] = [];
  readonly #nodes: MessageInitShape<typeof NodeProtoSchema>[] = [];
  readonly #constants: Constant[] = [];
  readonly #shared = new Map<string, Value>();
  readonly #nameCounts = new Map<string, number>();
  readonly #domains = new Set<string>([""]);
  #scope = "";

  constructor(name: string) {
    this.#name = name;
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

  /** A constant array, row-major. The graph keeps `data` itself until `toBytes`. */
  constant(name: string, data: ConstantData, dims: readonly number[]): Value {
    const count = dims.reduce((product, size) => product * size, 1);
    if (count !== data.length) throw invariant(`constant ${name}: [${dims.join(", ")}] has ${count} elements, got ${data.length}`);
    const value = { name: this.#uniqueName(name) };
    this.#constants.push({ name: value.name, type: elementTypeOf(data), dims, data });
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

  /** The graph as an ONNX file with its constants inside. @throws unsupported if it would pass the format's 2 GiB. */
  toBytes(): Uint8Array {
    const bytes = this.#constants.reduce((sum, { data }) => sum + data.byteLength, 0);
    if (bytes > MAX_FILE_BYTES) {
      throw unsupported(`graph ${this.#name} has ${bytes} bytes of constants, one ONNX file holds ${MAX_FILE_BYTES}: store them narrower`);
    }
    return toBinary(ModelProtoSchema, create(ModelProtoSchema, {
      irVersion: IR_VERSION,
      producerName: "tessera",
      opsetImport: [...this.#domains].sort().map((domain) => ({ domain, version: domain === "" ? STANDARD_OPSET : 1n })),
      graph: {
        name: this.#name, node: this.#nodes, initializer: this.#constants.map(tensorProto),
        input: this.#inputs, output: this.#outputs,
      },
    }));
  }

  #share(name: string, make: () => { data: ConstantData; dims: readonly number[] }): Value {
    const existing = this.#shared.get(name);
    if (existing !== undefined) return existing;
    const { data, dims } = make();
    this.#constants.push({ name, type: elementTypeOf(data), dims, data });
    this.#shared.set(name, { name });
    return { name };
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
  return data instanceof BigInt64Array ? "int64" : "uint8";
}

/** The one place that knows where a constant's bytes lie: files beside the graph would start here. */
function tensorProto({ name, type, dims, data }: Constant): MessageInitShape<typeof TensorProtoSchema> {
  const rawData = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return { name, dataType: DATA_TYPES[type], dims: dims.map(BigInt), rawData };
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
    return { name, type: AttributeType.INTS, ints: value.map(BigInt) };
  });
}
