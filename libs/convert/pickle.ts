import { mismatch } from "#libs/errors/errors.js";

/** What a pickle says, as data. */
export type PickleValue =
  | null | boolean | number | bigint | string | PickleValue[] | Map<PickleValue, PickleValue>
  | PickleGlobal | PickleObject | PickleCall | PickleReference;

/** A class or function by name. It is never looked up. */
export interface PickleGlobal {
  readonly kind: "global";
  readonly name: string;
}

/** An instance of a class, with the state it would be given. */
export interface PickleObject {
  readonly kind: "object";
  readonly className: string;
  state: PickleValue;
}

/** A function with the arguments it would be called with. It is never called. */
export interface PickleCall {
  readonly kind: "call";
  readonly name: string;
  readonly args: PickleValue;
}

/** Something that lies outside the pickle. */
export interface PickleReference {
  readonly kind: "reference";
  readonly id: PickleValue;
}

/**
 * Read a protocol-2 pickle as TorchScript writes them: a fixed list of opcodes, and nothing in it is executed.
 * @param label what errors call the file.
 * @throws mismatch if an opcode is unknown or the pickle ends early.
 * @see https://github.com/python/cpython/blob/main/Lib/pickletools.py for the opcodes
 */
export function unpickle(label: string, bytes: Buffer): PickleValue {
  const machine = new Machine(bytes);
  try {
    for (;;) {
      const opcode = machine.byte();
      if (opcode === STOP) return machine.pop();
      const step = STEPS.get(String.fromCharCode(opcode));
      if (step === undefined) throw new RangeError(`unknown opcode 0x${opcode.toString(16)}`);
      step(machine);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw mismatch(`${label}: not a TorchScript pickle or damaged at byte ${machine.position} (${error.message})`);
  }
}

const STOP = 0x2e;
const MARK = Symbol("mark");

class Machine {
  readonly bytes: Buffer;
  readonly memo = new Map<number, PickleValue>();
  readonly #stack: (PickleValue | typeof MARK)[] = [];
  position = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Where `length` bytes start; moves past them. */
  advance(length: number): number {
    const start = this.position;
    if (start + length > this.bytes.length) throw new RangeError("it ends early");
    this.position = start + length;
    return start;
  }

  byte(): number {
    return this.bytes[this.advance(1)];
  }

  text(length: number): string {
    const start = this.advance(length);
    return this.bytes.toString("utf8", start, start + length);
  }

  line(): string {
    const end = this.bytes.indexOf(0x0a, this.position);
    if (end < 0) throw new RangeError("it ends early");
    const line = this.text(end - this.position);
    this.position = end + 1;
    return line;
  }

  push(value: PickleValue | typeof MARK): void {
    this.#stack.push(value);
  }

  pop(): PickleValue {
    const value = this.#stack.pop();
    if (value === undefined || value === MARK) throw new RangeError("nothing to take");
    return value;
  }

  top(): PickleValue {
    const value = this.pop();
    this.push(value);
    return value;
  }

  /** What was pushed since the last mark; the mark goes too. */
  popToMark(): PickleValue[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at < 0) throw new RangeError("no mark");
    return this.#stack.splice(at).slice(1) as PickleValue[];
  }
}

function checkProtocol(m: Machine): void {
  const protocol = m.byte();
  if (protocol !== 2) throw new RangeError(`protocol ${protocol} instead of 2`);
}

function tupleOf(count: number): (m: Machine) => void {
  return (m) => m.push(Array.from({ length: count }, () => m.pop()).reverse());
}

function listAt(m: Machine): PickleValue[] {
  const list = m.top();
  if (!Array.isArray(list)) throw new RangeError("no list");
  return list;
}

function setItems(m: Machine, items: readonly PickleValue[]): void {
  const map = m.top();
  if (!(map instanceof Map)) throw new RangeError("no dictionary");
  for (let i = 0; i + 1 < items.length; i += 2) map.set(items[i], items[i + 1]);
}

function nameOf(value: PickleValue): string {
  if (typeof value === "object" && value !== null && "kind" in value && value.kind === "global") return value.name;
  throw new RangeError("no class or function");
}

function setState(m: Machine): void {
  const state = m.pop();
  const object = m.top();
  const isObject = typeof object === "object" && object !== null && "kind" in object && object.kind === "object";
  if (!isObject) throw new RangeError("no object");
  object.state = state;
}

/** Sizes beyond 32 bits come in this form. */
function longOf(m: Machine): number | bigint {
  const length = m.byte();
  const start = m.advance(length);
  const digits = [...m.bytes.subarray(start, start + length)].reverse();
  const value = digits.reduce((sum, digit) => (sum << 8n) | BigInt(digit), 0n);
  const signed = BigInt.asIntN(8 * length, value);
  return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
}

function memoized(m: Machine, index: number): PickleValue {
  const value = m.memo.get(index);
  if (value === undefined) throw new RangeError("nothing remembered there");
  return value;
}

const STEPS: ReadonlyMap<string, (m: Machine) => void> = new Map<string, (m: Machine) => void>([
  ["\x80", checkProtocol],
  ["(", (m) => m.push(MARK)],
  ["0", (m) => void m.pop()],
  ["N", (m) => m.push(null)],
  ["\x88", (m) => m.push(true)],
  ["\x89", (m) => m.push(false)],
  ["K", (m) => m.push(m.byte())], // BININT1
  ["M", (m) => m.push(m.bytes.readUInt16LE(m.advance(2)))], // BININT2
  ["J", (m) => m.push(m.bytes.readInt32LE(m.advance(4)))], // BININT
  ["\x8a", (m) => m.push(longOf(m))], // LONG1
  ["G", (m) => m.push(m.bytes.readDoubleBE(m.advance(8)))], // BINFLOAT
  ["X", (m) => m.push(m.text(m.bytes.readUInt32LE(m.advance(4))))], // BINUNICODE
  ["c", (m) => m.push({ kind: "global", name: `${m.line()}.${m.line()}` })],
  [")", tupleOf(0)],
  ["\x85", tupleOf(1)],
  ["\x86", tupleOf(2)],
  ["\x87", tupleOf(3)],
  ["t", (m) => m.push(m.popToMark())],
  ["]", (m) => m.push([])],
  ["a", (m) => { const item = m.pop(); listAt(m).push(item); }],
  ["e", (m) => { const items = m.popToMark(); const list = listAt(m); for (const item of items) list.push(item); }],
  ["}", (m) => m.push(new Map())],
  ["s", (m) => { const value = m.pop(); const key = m.pop(); setItems(m, [key, value]); }],
  ["u", (m) => { const items = m.popToMark(); setItems(m, items); }],
  ["q", (m) => void m.memo.set(m.byte(), m.top())], // BINPUT
  ["r", (m) => void m.memo.set(m.bytes.readUInt32LE(m.advance(4)), m.top())], // LONG_BINPUT
  ["h", (m) => m.push(memoized(m, m.byte()))], // BINGET
  ["j", (m) => m.push(memoized(m, m.bytes.readUInt32LE(m.advance(4))))], // LONG_BINGET
  ["\x81", (m) => { m.pop(); m.push({ kind: "object", className: nameOf(m.pop()), state: null }); }], // NEWOBJ
  ["R", (m) => { const args = m.pop(); m.push({ kind: "call", name: nameOf(m.pop()), args }); }], // REDUCE
  ["b", setState],
  ["Q", (m) => m.push({ kind: "reference", id: m.pop() })], // BINPERSID
]);
