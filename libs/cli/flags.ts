import { hostPortEnv } from "#libs/config/env.js";
import { AppError, invalidRequest } from "#libs/errors/errors.js";

/** Readers of flags; each returns undefined for a flag left out, or says otherwise, and throws AppError `invalid-request` naming the flag. */

/** The prompt among a command's words; undefined without one. @throws AppError `invalid-request` for several, of which all but one would be lost. */
export function promptWord(words: readonly string[]): string | undefined {
  if (words.length <= 1) return words[0];
  throw new AppError("invalid-request", `PROMPT must be one argument, got ${words.length}: put it in quotes`);
}

/** A whole number in `min .. max`, both included. */
export function integerFlag(
  name: string, text: string | undefined, { min, max }: { readonly min: number; readonly max: number },
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) throw invalidRequest(name, `a whole number ${min} .. ${max}`, text);
  return value;
}

/** A number in `min .. max`, both included, in decimal notation. */
export function floatFlag(
  name: string, text: string | undefined, { min, max }: { readonly min: number; readonly max: number },
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) throw invalidRequest(name, `a number ${min} .. ${max}`, text);
  return value;
}

/** One of a few words. */
export function choiceFlag<T extends string>(name: string, text: string | undefined, choices: readonly T[]): T | undefined {
  const choice = choices.find((word) => word === text);
  if (text !== undefined && choice === undefined) throw invalidRequest(name, `one of ${choices.join(", ")}`, text);
  return choice;
}

/** A seed: a whole number of 64 bits. */
export function seedFlag(name: string, text: string | undefined): bigint | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,20}$/.test(text) || BigInt(text) >= 2n ** 64n) {
    throw invalidRequest(name, "a whole number 0 .. 18446744073709551615", text);
  }
  return BigInt(text);
}

/** An address `host:port`. */
export function hostPortFlag(name: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  if (text === "") throw invalidRequest(name, "host:port", text);
  return hostPortEnv({ [name]: text }, name, { default: "" });
}

/** Rows and columns, `HxW`. */
export function gridFlag(name: string, text: string | undefined): readonly [height: number, width: number] | undefined {
  if (text === undefined) return undefined;
  const match = /^([1-9]\d{0,3})x([1-9]\d{0,3})$/.exec(text);
  if (match === null) throw invalidRequest(name, "rows x columns such as 64x64", text);
  return [Number(match[1]), Number(match[2])];
}

/** Frames, rows and columns that become one token, `TxHxW`: powers of two, of which the last two are equal. */
export function compressionFlag(name: string, text: string | undefined): { readonly time: number; readonly space: number } | undefined {
  if (text === undefined) return undefined;
  const match = /^(2|4|8|16|32)x(2|4|8|16|32)x\2$/.exec(text);
  if (match === null) throw invalidRequest(name, "frames x rows x columns such as 8x16x16", text);
  return { time: Number(match[1]), space: Number(match[2]) };
}

/** A flag that cannot be left out. @throws AppError `invalid-request` if it is. */
export function requiredFlag(name: string, text: string | undefined): string {
  if (text === undefined || text === "") throw invalidRequest(name, "given");
  return text;
}
