import type { LinearWeights } from "./linear.js";

/** Weights in 8 bits with one scale for each output: `weight[row][column] = scales[row] * (quantized - 128)`. */
export interface QuantizedRows {
  /** `[columns, rows]`, 1 .. 255. */
  readonly quantized: Uint8Array;
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
  const quantized = new Uint8Array(weight.length);
  forEachTile(rows, columns, (row, column) => {
    const value = scales[row] === 0 ? 0 : Math.round(weight[row * columns + column] / scales[row]);
    quantized[column * rows + row] = 128 + value;
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
  const padded = new Float32Array(BLOCK);
  for (let block = 0; block < rows * blocks; block++) {
    const start = Math.floor(block / blocks) * columns + (block % blocks) * BLOCK;
    padded.fill(0).set(weight.subarray(start, start + Math.min(BLOCK, columns - (block % blocks) * BLOCK)));
    scales[block] = bestScale(padded);
    for (let i = 0; i < BLOCK; i += 2) {
      packed[(block * BLOCK + i) / 2] = (level(padded[i], scales[block]) + 8) | ((level(padded[i + 1], scales[block]) + 8) << 4);
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
function bestScale(block: Float32Array): number {
  let largest = 0;
  for (const value of block) if (Math.abs(value) > Math.abs(largest)) largest = value;
  if (largest === 0) return 0;
  let best = 0;
  let leastError = Infinity;
  for (const shrink of SHRINKS) {
    const scale = Math.fround((shrink * largest) / -8);
    let error = 0;
    for (const value of block) error += (value - scale * level(value, scale)) ** 2;
    if (error < leastError) [best, leastError] = [scale, error];
  }
  return best;
}

/** The nearest of the levels -8 .. 7. */
function level(value: number, scale: number): number {
  return scale === 0 ? 0 : Math.max(-8, Math.min(7, Math.round(value / scale)));
}
