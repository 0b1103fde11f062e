import assert from "node:assert/strict";
import { test } from "node:test";
import { BLOCK, quantizeBlocks, quantizeRows, transposed } from "./quantize.js";

/** Different in every place, between -1 and 1. */
function noise(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i * i + 1));
}

test("8-bit weights are within half a step, and each row's largest is exact", () => {
  const [rows, columns] = [70, 130];
  const weight = noise(rows * columns);
  weight.fill(0, columns, 2 * columns);
  const { quantized, scales } = quantizeRows({ weight, rows, columns });
  assert.equal(scales[1], 0);
  for (let row = 0; row < rows; row++) {
    let largest = 0;
    for (let column = 0; column < columns; column++) {
      const value = scales[row] * quantized[column * rows + row];
      assert.ok(Math.abs(value - weight[row * columns + column]) <= scales[row] * 0.5001, `${row}, ${column}`);
      largest = Math.max(largest, Math.abs(quantized[column * rows + row]));
    }
    assert.equal(largest, row === 1 ? 0 : 127);
  }
});

test("4-bit weights keep eight levels on each side, padded blocks and zeros", () => {
  const [rows, columns] = [3, BLOCK + 8];
  const weight = noise(rows * columns);
  weight.fill(0, columns, columns + BLOCK);
  weight.set(Float32Array.from({ length: BLOCK }, (_, i) => (i % 16) - 8));
  const { packed, scales, blocks } = quantizeBlocks({ weight, rows, columns });
  assert.equal(blocks, 2);
  const stored = (row: number, column: number): number => {
    const place = row * blocks * BLOCK + column;
    return scales[row * blocks + Math.floor(column / BLOCK)] * (((packed[place >> 1] >> (4 * (place % 2))) & 15) - 8);
  };
  for (let column = 0; column < BLOCK; column++) assert.equal(stored(0, column), (column % 16) - 8);
  for (let column = 0; column < BLOCK; column++) assert.equal(stored(1, column), 0);
  for (let column = columns; column < blocks * BLOCK; column++) assert.ok(stored(2, column) === 0);
  for (let column = 0; column < columns; column++) assert.ok(Math.abs(stored(2, column) - weight[2 * columns + column]) < 0.2);
});

test("a matrix turns over its diagonal, whatever its size", () => {
  const [rows, columns] = [65, 3];
  const weight = noise(rows * columns);
  const turned = transposed({ weight, rows, columns });
  for (let i = 0; i < rows * columns; i++) assert.equal(turned[(i % columns) * rows + Math.floor(i / columns)], weight[i]);
});
