import { readFile, stat } from "node:fs/promises";
import { basename } from "node:path";
import { mismatch } from "#libs/errors/errors.js";

/** What is read field by field is written by people, or of their size. */
const MAX_FILE_BYTES = 2 ** 20;

/**
 * One object of a JSON file, read field by field. Every reader throws mismatch naming file, field, rule and value.
 * Fields that nobody reads are an error too once `finish` is called.
 */
export class Fields {
  readonly #label: string;
  readonly #path: string;
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #read = new Set<string>();

  /** @param path what stands before a field's name in errors, e.g. `image.`; empty at the top. */
  constructor(label: string, value: unknown, path = "") {
    this.#label = label;
    this.#path = path;
    if (!isObject(value)) throw mismatch(`${label}: \`${path.slice(0, -1) || "."}\` must be an object`);
    this.#values = value;
  }

  /** @throws mismatch if the file is missing, larger than 1 MiB, or no JSON object. */
  static async fromFile(path: string): Promise<Fields> {
    const label = basename(path);
    const unreadable = (cause: unknown): never => {
      throw mismatch(`${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`);
    };
    const { size } = await stat(path).catch(unreadable);
    if (size > MAX_FILE_BYTES) throw mismatch(`${label}: must have at most ${MAX_FILE_BYTES} bytes, got ${size}`);
    const text = await readFile(path, "utf8").catch(unreadable);
    try {
      return new Fields(label, JSON.parse(text));
    } catch (error) {
      if (error instanceof SyntaxError) throw mismatch(`${label}: is not valid JSON`);
      throw error;
    }
  }

  /** Whether the field is there and not null. */
  has(name: string): boolean {
    return this.#values[name] !== undefined && this.#values[name] !== null;
  }

  /** The value as it stands. */
  raw(name: string): unknown {
    this.#read.add(name);
    return this.#values[name];
  }

  object(name: string): Fields {
    return new Fields(this.#label, this.raw(name), `${this.#path}${name}.`);
  }

  string(name: string): string {
    const value = this.raw(name);
    if (typeof value !== "string" || value === "") throw this.refuse(name, "a text that is not empty", value);
    return value;
  }

  boolean(name: string): boolean {
    const value = this.raw(name);
    if (typeof value !== "boolean") throw this.refuse(name, "true or false", value);
    return value;
  }

  /** A whole number in `min .. max`. */
  integer(name: string, min: number, max = Number.MAX_SAFE_INTEGER): number {
    const value = this.number(name, min, max);
    if (!Number.isSafeInteger(value)) throw this.refuse(name, "a whole number", value);
    return value;
  }

  /** A finite number in `min .. max`. */
  number(name: string, min = -Infinity, max = Infinity): number {
    const value = this.raw(name);
    if (typeof value !== "number" || !Number.isFinite(value) || value < min || value > max) {
      const range = max === Infinity || max === Number.MAX_SAFE_INTEGER ? `>= ${min}` : `${min} .. ${max}`;
      throw this.refuse(name, min === -Infinity ? "a finite number" : `a number ${range}`, value);
    }
    return value;
  }

  /** One of the given values. */
  oneOf<T extends string | number | boolean | null>(name: string, allowed: readonly T[]): T {
    const value = this.raw(name);
    const found = allowed.find((each) => each === value);
    if (found === undefined) throw this.refuse(name, allowed.map((each) => JSON.stringify(each)).join(" or "), value);
    return found;
  }

  /** A list of whole numbers >= `min`, not empty. */
  integers(name: string, min: number): readonly number[] {
    const value = this.raw(name);
    const isValid = Array.isArray(value) && value.length > 0 && value.every((each) => Number.isSafeInteger(each) && each >= min);
    if (!isValid) throw this.refuse(name, `a list of whole numbers >= ${min}`, value);
    return value;
  }

  /** A list of finite numbers. */
  numbers(name: string): readonly number[] {
    const value = this.raw(name);
    const isValid = Array.isArray(value) && value.every((each) => typeof each === "number" && Number.isFinite(each));
    if (!isValid) throw this.refuse(name, "a list of finite numbers", value);
    return value;
  }

  /** A list of objects, not empty; the fields of the third are called `name[2].field`. */
  objects(name: string): readonly Fields[] {
    const value = this.raw(name);
    if (!Array.isArray(value) || value.length === 0) throw this.refuse(name, "a list of objects, not empty", value);
    return value.map((each, index) => new Fields(this.#label, each, `${this.#path}${name}[${index}].`));
  }

  /** An object whose values all have one type. */
  record<T extends "string" | "number">(name: string, type: T): Readonly<Record<string, T extends "string" ? string : number>> {
    const value = this.raw(name);
    const isValid = isObject(value) && Object.values(value).every((each) => typeof each === type);
    if (!isValid) throw this.refuse(name, `an object of ${type}s`, value);
    return value as Readonly<Record<string, T extends "string" ? string : number>>;
  }

  /** Names of all fields. */
  names(): readonly string[] {
    return Object.keys(this.#values);
  }

  /** @throws mismatch naming a field that was never read. */
  finish(): void {
    const unknown = this.names().find((name) => !this.#read.has(name));
    if (unknown !== undefined) throw mismatch(`${this.#label}: \`${this.#path}${unknown}\` is not a known field`);
  }

  /** The error for a field that breaks its rule. */
  refuse(name: string, rule: string, value: unknown): Error {
    return mismatch(`${this.#label}: \`${this.#path}${name}\` must be ${rule}, got ${shown(value)}`);
  }
}

function shown(value: unknown): string {
  try {
    const text = JSON.stringify(value) ?? "nothing";
    return text.length > 80 ? `${text.slice(0, 80)}...` : text;
  } catch {
    // Lists nested without end can be read, but not written.
    return "too deep a value to show";
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
