import { mismatch, unsupported } from "#libs/errors/errors.js";
import { codeBasis, codeTable } from "#libs/fsq/fsq.js";
import type { TensorSource } from "./tensor-source.js";

/** Constants that a trace keeps beside a network's weights. None is used; each must say what this build computes. */

/** Codes lie at least 0.01 apart for up to 200 levels; what is stored may be rounded to bfloat16. */
const TOLERANCE = 0.005;

/**
 * The levels of the FSQ quantizer called `prefix`, channel 0 first; empty where there is none, as in continuous tokenizers.
 * @throws mismatch if its levels are none, or its basis or codebook are not those of its levels.
 */
export async function readLevels(tensors: TensorSource, prefix: string): Promise<readonly number[]> {
  if (!tensors.has(`${prefix}._levels`)) return [];
  const channels = tensors.shape(`${prefix}._levels`).slice(0, 1);
  const levels = await tensors.integers(`${prefix}._levels`, channels);
  if (levels.length === 0 || levels.some((level) => level < 2)) {
    throw mismatch(`\`${prefix}._levels\` must be whole numbers >= 2, got [${levels.join(", ")}]`);
  }
  await checkBasis(tensors, `${prefix}._basis`, levels);
  await checkCodebook(tensors, `${prefix}.implicit_codebook`, levels);
  return levels;
}

async function checkBasis(tensors: TensorSource, name: string, levels: readonly number[]): Promise<void> {
  if (!tensors.has(name)) return;
  const basis = await tensors.integers(name, [levels.length]);
  const expected = codeBasis(levels);
  if (basis.some((step, channel) => step !== expected[channel])) {
    throw mismatch(`\`${name}\` must be [${expected.join(", ")}], got [${basis.join(", ")}]`);
  }
}

async function checkCodebook(tensors: TensorSource, name: string, levels: readonly number[]): Promise<void> {
  if (!tensors.has(name)) return;
  const table = codeTable(levels);
  const stored = await tensors.floats(name, [table.length / levels.length, levels.length]);
  const differs = table.findIndex((code, index) => !(Math.abs(code - stored[index]) < TOLERANCE));
  if (differs >= 0) throw mismatch(`\`${name}\` differs from the codes of its levels at ${differs}`);
}

/**
 * Check the filters that patches are cut with, where the file has them: `[0.7071, 0.7071]` is Haar, the plain one is `[1, 1]`.
 * @param patch pixels along each side of one.
 * @throws unsupported for other filters; mismatch for another patch.
 */
export async function checkPatcher(tensors: TensorSource, prefix: string, patch: number): Promise<void> {
  if (tensors.has(`${prefix}.wavelets`)) {
    const wavelets = await tensors.floats(`${prefix}.wavelets`, [2]);
    if (wavelets.some((value) => !(Math.abs(value - Math.SQRT1_2) < TOLERANCE))) {
      throw unsupported(`patches must be cut by Haar wavelets, \`${prefix}.wavelets\` is [${[...wavelets].join(", ")}]`);
    }
  }
  await checkIntegers(tensors, `${prefix}._arange`, [0, 1]);
  await checkIntegers(tensors, `${prefix}.patch_size_buffer`, [patch]);
}

async function checkIntegers(tensors: TensorSource, name: string, expected: readonly number[]): Promise<void> {
  if (!tensors.has(name)) return;
  const values = await tensors.integers(name, [expected.length]);
  if (values.some((value, index) => value !== expected[index])) {
    throw mismatch(`\`${name}\` must be [${expected.join(", ")}], got [${values.join(", ")}]`);
  }
}
