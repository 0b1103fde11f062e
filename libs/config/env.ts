import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { AppError } from "#libs/errors/errors.js";

/** Environment variables by name, as in `process.env`. An empty value counts as none. */
export type Env = Readonly<Record<string, string | undefined>>;

/** The text of a variable, or the default. */
export function stringEnv(env: Env, name: string, options: { readonly default: string }): string {
  return env[name] || options.default;
}

/**
 * A whole number in `min .. max`, both included, or the default.
 * @throws AppError `invalid-request` naming the variable, the range and the value.
 */
export function intEnv(
  env: Env, name: string, options: { readonly min: number; readonly max: number; readonly default: number },
): number {
  const text = env[name];
  if (!text) return options.default;
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (!(value >= options.min && value <= options.max)) {
    throw malformed(name, `a whole number ${options.min} .. ${options.max}`, text);
  }
  return value;
}

/**
 * One of a fixed set of words, or the default.
 * @throws AppError `invalid-request` naming the variable, the words and the value.
 */
export function choiceEnv<T extends string>(
  env: Env, name: string, options: { readonly choices: readonly T[]; readonly default: T },
): T {
  const text = env[name];
  if (!text) return options.default;
  const choice = options.choices.find((word) => word === text);
  if (choice === undefined) throw malformed(name, `one of ${options.choices.join(", ")}`, text);
  return choice;
}

/**
 * A path that exists, made absolute against the working directory, or the default as it is.
 * @throws AppError `invalid-request` if it does not exist or is not of the wanted type.
 */
export function pathEnv(
  env: Env, name: string, options: { readonly type: "file" | "folder"; readonly default: string },
): string {
  const text = env[name];
  if (!text) return options.default;
  const path = resolve(text);
  const fits = existsSync(path) && (options.type === "folder") === statSync(path).isDirectory();
  if (!fits) throw malformed(name, `an existing ${options.type}`, text);
  return path;
}

/**
 * An address `host:port`, port 0 .. 65535, host a name, an IPv4 address or a bracketed IPv6 address; or the default.
 * @throws AppError `invalid-request` naming the variable and the value.
 */
export function hostPortEnv(env: Env, name: string, options: { readonly default: string }): string {
  const text = env[name];
  if (!text) return options.default;
  const match = /^(?:[\w.-]+|\[[\da-fA-F:]+\]):(\d{1,5})$/.exec(text);
  if (match === null || Number(match[1]) > 65535) throw malformed(name, "host:port", text);
  return text;
}

function malformed(name: string, rule: string, value: string): AppError {
  return new AppError("invalid-request", `${name} must be ${rule}, got ${JSON.stringify(value)}`, {
    violations: [{ field: name, description: `must be ${rule}, got ${JSON.stringify(value)}` }],
  });
}
