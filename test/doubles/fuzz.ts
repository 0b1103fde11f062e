import { create, ScalarType, toBinary, type DescField, type DescMessage, type Message } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { frame, type RawCall } from "./raw-call.js";

/** A source of numbers that a seed fixes. @see Mulberry32, public domain. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** 0 .. count - 1. */
  roll(count: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let word = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * count);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.roll(items.length)];
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.roll(256)));
  }
}

const TEXTS = ["", " ", "a dog", "\u0000", "<|soi|>", "日本語 🍎", "\u202e", "x".repeat(20_000), "%s%n", "1".repeat(300)];
const INTEGERS = [0, 1, 2, 15, 16, 17, 255, 65_536, 2 ** 31 - 1, 2 ** 32 - 1];
const NUMBERS = [0, 1, -1, 0.5, 100, 101, 1e-45, 3.4e38, NaN, Infinity, -Infinity];
const MAX_DEPTH = 6;
const OVERSIZED_BYTES = 5 * 2 ** 20;

/** A message that is valid on the wire, with values from the edges of every field's range and beyond. */
export function edgeMessage(desc: DescMessage, dice: Dice, depth = 0): Message {
  const message = create(desc);
  const target = reflect(desc, message);
  for (const field of desc.fields) {
    if (dice.roll(3) === 0 || depth > MAX_DEPTH) continue;
    if (field.fieldKind === "list") {
      const list = target.get(field);
      const count = dice.pick([0, 1, 2, 16, 17, 300]);
      for (let i = 0; i < count; i++) list.add(listValue(field, dice, depth) as never);
    } else if (field.fieldKind === "message") {
      target.set(field, reflect(field.message, edgeMessage(field.message, dice, depth + 1)));
    } else if (field.fieldKind === "enum") {
      target.set(field, dice.pick([0, 1, 2, 3, 4, 99, -1]));
    } else if (field.fieldKind === "scalar") {
      target.set(field, scalar(field.scalar, dice));
    }
  }
  return message;
}

/** One call that is wrong in some way, or right by chance. */
export function anyCall(service: GenService<GenServiceMethods>, dice: Dice): RawCall & { readonly name: string } {
  const method = dice.pick(service.methods);
  const path = `/${service.typeName}/${method.name}`;
  const message = Buffer.from(toBinary(method.input, edgeMessage(method.input, dice)));
  const kinds: Readonly<Record<string, () => Partial<RawCall>>> = {
    "edge values": () => ({ body: frame(message) }),
    "flipped bits": () => ({ body: frame(flipped(message, dice)) }),
    "truncated message": () => ({ body: frame(message.subarray(0, dice.roll(message.length + 1))) }),
    "random bytes": () => ({ body: frame(dice.bytes(dice.roll(200))) }),
    "two messages": () => ({ body: Buffer.concat([frame(message), frame(dice.bytes(4))]) }),
    "no message": () => ({ body: Buffer.alloc(0) }),
    "oversized": () => ({ body: frame(Buffer.alloc(OVERSIZED_BYTES)) }),
    "oversized by its word": () => ({ body: frame(message, { length: 2 ** 32 - 1 }) }),
    "compressed by its word": () => ({ body: frame(message, { flag: 1 }) }),
    "unknown flag": () => ({ body: frame(message, { flag: 2 + dice.roll(254) }) }),
    "ends inside a message": () => ({ body: frame(message, { length: message.length + 10 }) }),
    "ends inside a frame's head": () => ({ body: dice.bytes(1 + dice.roll(4)) }),
    "not framed": () => ({ body: dice.bytes(5 + dice.roll(100)) }),
    "reset in mid message": () => ({ body: frame(message, { length: message.length + 10 }), ending: "reset" }),
    "reset after the message": () => ({ body: frame(message), ending: "reset" }),
    "lost connection": () => ({ body: frame(message, { length: message.length + dice.roll(10) }), ending: "cut" }),
    "unknown method": () => ({ body: frame(message), path: `/${service.typeName}/${dice.pick(["Nothing", "", "../Encode"])}` }),
    "wrong headers": () => ({ body: frame(message), headers: dice.pick<NonNullable<RawCall["headers"]>>([
      { "content-type": "text/plain" }, { "grpc-timeout": "soon" }, { "grpc-timeout": "0m" }, { "grpc-encoding": "none-such" },
      { "authorization": "x".repeat(8000) }, { "traceparent": "00-zz-zz-01" }, { "x-bin": "%%%" }, { ":method": "GET" },
    ]) }),
  };
  const name = dice.pick(Object.keys(kinds));
  return { path, body: Buffer.alloc(0), ending: "end", ...kinds[name](), name: `${name} to ${path}` };
}

function listValue(field: DescField & { readonly fieldKind: "list" }, dice: Dice, depth: number): unknown {
  if (field.listKind === "message") return reflect(field.message, edgeMessage(field.message, dice, depth + 1));
  return field.listKind === "enum" ? dice.roll(5) : scalar(field.scalar, dice);
}

function scalar(type: ScalarType, dice: Dice): unknown {
  if (type === ScalarType.STRING) return dice.pick(TEXTS);
  if (type === ScalarType.BYTES) return dice.bytes(dice.roll(64));
  if (type === ScalarType.BOOL) return dice.roll(2) === 1;
  if (type === ScalarType.FLOAT || type === ScalarType.DOUBLE) return dice.pick(NUMBERS);
  if (type === ScalarType.UINT64) return dice.pick([0n, 1n, 2n ** 63n, 2n ** 64n - 1n]);
  return dice.pick(INTEGERS);
}

function flipped(message: Buffer, dice: Dice): Buffer {
  const copy = Buffer.from(message);
  for (let i = 0; i < 1 + dice.roll(4) && copy.length > 0; i++) copy[dice.roll(copy.length)] ^= 1 << dice.roll(8);
  return copy;
}
