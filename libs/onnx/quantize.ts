import type { LinearWeights } from "./linear.js";

/** Weights in 8 bits with one scale for each output: `weight[row][column] = scales[row] * quantized`. */
export interface QuantizedRows {
  /** `[columns, rows]`, -127 .. 127. */
  readonly quantized: Int8Array;
  /** `[rows]`. */
  readonly scales: Float32Array;
}

/** Weights in 4 bits, in blocks along a row that share a scale: `weight = scale * (quantized - 8)`. */
export interface QuantizedBlocks {
  /** `[rows, blocks, BLOCK / 2]`: two weights a byte, the first in the low half; a row's last block is padded with zeros. */
  readonly packed: Uint8Array;
  /** `[rows, blocks]`. */
  readonly scales: Float32Array;
  readonly blocks: number;
}

/** Weights in a block of 4-bit weights. */
export const BLOCK = 32;

/** Rows and columns of a tile that is transposed at once, so that both sides stay in the processor's cache. */
const TILE = 64;
/** Scales tried for each block of 4-bit weights, as parts of the one that fits the largest weight exactly. */
const SHRINKS = [1, 0.95, 0.9, 0.85, 0.8, 0.75];

/** Round to 8 bits, symmetrically and row by row. */
export function quantizeRows({ weight, rows, columns }: LinearWeights): QuantizedRows {
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) scales[row] = largestMagnitude(weight, row * columns, columns) / 127;
  const quantized = new Int8Array(weight.length);
  forEachTile(rows, columns, (row, column) => {
    quantized[column * rows + row] = scales[row] === 0 ? 0 : Math.round(weight[row * columns + column] / scales[row]);
  });
  return { quantized, scales };
}

/**
 * Round to 4 bits, block by block. A block's largest weight is -8 or 7 scales, or lies beyond where the rest gains more
 * than it loses: of a few scales the one with the least squared error is taken.
 */
export function quantizeBlocks({ weight, rows, columns }: LinearWeights): QuantizedBlocks {
  const blocks = Math.ceil(columns / BLOCK);
  const packed = new Uint8Array((rows * blocks * BLOCK) / 2);
  const scales = new Float32Array(rows * blocks);
  for (let index = 0; index < rows * blocks; index++) {
    const first = (index % blocks) * BLOCK;
    const start = Math.floor(index / blocks) * columns + first;
    const count = Math.min(BLOCK, columns - first);
    scales[index] = bestScale(weight, start, count);
    const inverse = inverseOf(scales[index]);
    for (let i = 0; i < BLOCK; i++) {
      const value = i < count ? weight[start + i] : 0;
      packed[(index * BLOCK + i) >> 1] |= (level(value * inverse) + 8) << (4 * (i & 1));
    }
  }
  return { packed, scales, blocks };
}

/** `[rows, columns]` -> `[columns, rows]`. */
export function transposed({ weight, rows, columns }: LinearWeights): Float32Array {
  const turned = new Float32Array(weight.length);
  forEachTile(rows, columns, (row, column) => {
    turned[column * rows + row] = weight[row * columns + column];
  });
  return turned;
}

function forEachTile(rows: number, columns: number, visit: (row: number, column: number) => void): void {
  for (let top = 0; top < rows; top += TILE) {
    for (let left = 0; left < columns; left += TILE) {
      const [bottom, right] = [Math.min(rows, top + TILE), Math.min(columns, left + TILE)];
      for (let row = top; row < bottom; row++) for (let column = left; column < right; column++) visit(row, column);
    }
  }
}

function largestMagnitude(values: Float32Array, start: number, count: number): number {
  let largest = 0;
  for (let i = start; i < start + count; i++) largest = Math.max(largest, Math.abs(values[i]));
  return largest;
}

/** May be negative: the side of the largest weight gets the level -8 that the other side lacks. */
function bestScale(values: Float32Array, start: number, count: number): number {
  let largest = 0;
  for (let i = start; i < start + count; i++) if (Math.abs(values[i]) > Math.abs(largest)) largest = values[i];
  if (largest === 0) return 0;
  let best = 0;
  let leastError = Infinity;
  for (let tried = 0; tried < SHRINKS.length; tried++) {
    const scale = Math.fround((SHRINKS[tried] * largest) / -8);
    const inverse = inverseOf(scale);
    let error = 0;
    for (let i = start; i < start + count; i++) {
      const difference = values[i] - scale * level(values[i] * inverse);
      error += difference * difference;
    }
    if (error < leastError) [best, leastError] = [scale, error];
  }
  return best;
}

function inverseOf(scale: number): number {
  return scale === 0 ? 0 : 1 / scale;
}

/** The nearest of the levels -8 .. 7. Cut off behind the half that rounds, for this runs seven times for each weight. */
function level(value: number): number {
  const shifted = value + 8.5;
  return (shifted < 0 ? 0 : shifted > 15 ? 15 : shifted | 0) - 8;
}
