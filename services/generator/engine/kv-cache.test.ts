import assert from "node:assert/strict";
import { test } from "node:test";
import { KvCache, MASKED } from "./kv-cache.js";
import type { ModelLayout } from "./model.js";

const LAYOUT: ModelLayout = {
  layers: 2, keyValueHeads: 3, headSize: 2, codebookSize: 8, tokenOffset: 0, imageTokenCount: 400, maxPositions: 512,
};
const { layers, keyValueHeads: heads, headSize } = LAYOUT;

/** A number that names its place. */
const cell = (layer: number, head: number, row: number, position: number, d: number) =>
  layer * 1e6 + head * 1e5 + row * 1e4 + position * 10 + d;

/** New positions of `rows` rows from `first` on, as a model lays them out; `row` names the content. */
function newPositions(row: number, first: number, count: number) {
  const keys: number[] = [];
  const values: number[] = [];
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      for (let s = 0; s < count; s++) {
        for (let d = 0; d < headSize; d++) {
          keys.push(cell(layer, head, row, first + s, d));
          values.push(-cell(layer, head, row, first + s, d));
        }
      }
    }
  }
  return { newKeys: Float32Array.from(keys), newValues: Float32Array.from(values), rows: 1, count };
}

function append(cache: KvCache, row: number, count: number, content = row): void {
  cache.reserve(Math.max(...cache.lengths) + count);
  cache.append(row, newPositions(content, cache.lengths[row], count), 0, count);
}

/** Every position of a row lies where the model looks for it, and nothing behind it is seen. */
function checkRow(cache: KvCache, row: number, content = row): void {
  const { capacity } = cache;
  for (let layer = 0; layer < layers; layer++) {
    for (let head = 0; head < heads; head++) {
      const base = (row * heads + head) * headSize * capacity;
      for (let position = 0; position < cache.lengths[row]; position++) {
        for (let d = 0; d < headSize; d++) {
          const expected = cell(layer, head, content, position, d);
          assert.equal(cache.keys[layer][base + position * headSize + d], expected);
          assert.equal(cache.values[layer][base + position * headSize + d], -expected);
        }
      }
    }
  }
  const bias = cache.bias.subarray(row * capacity, (row + 1) * capacity);
  assert.deepEqual([...bias], Array.from(bias, (_, position) => (position < cache.lengths[row] ? 0 : MASKED)));
}

test("rows keep what was appended while they grow at different speeds", () => {
  const cache = new KvCache(LAYOUT, 3, 400);
  for (let step = 0; step < 60; step++) {
    append(cache, 0, 1);
    append(cache, 1, 3);
    if (step % 5 === 0) append(cache, 2, 7);
  }
  assert.deepEqual([...cache.lengths], [60, 180, 84]);
  for (const row of [0, 1, 2]) checkRow(cache, row);
});

test("only the first positions of a window are taken", () => {
  const cache = new KvCache(LAYOUT, 1, 400);
  cache.reserve(8);
  cache.append(0, newPositions(0, 0, 8), 0, 3);
  assert.equal(cache.lengths[0], 3);
  checkRow(cache, 0);
});

test("the stride follows the longest row, up and down", () => {
  const cache = new KvCache(LAYOUT, 2, 400);
  append(cache, 0, 20);
  const small = cache.capacity;
  append(cache, 1, 300);
  assert.ok(small < 64 && cache.capacity >= 300 && cache.capacity < 340, `${small}, ${cache.capacity}`);
  cache.clear(1);
  append(cache, 0, 1);
  assert.ok(cache.capacity < 64, `${cache.capacity}`);
  checkRow(cache, 0);
});

test("a row is copied within the cache and from another", () => {
  const cache = new KvCache(LAYOUT, 3, 400);
  append(cache, 2, 50);
  cache.copyRow(cache, 2, 0);
  checkRow(cache, 0, 2);
  const prompt = new KvCache(LAYOUT, 1, 9);
  append(prompt, 0, 9, 5);
  cache.copyRow(prompt, 0, 1);
  checkRow(cache, 1, 5);
});

test("a row takes no more than it has room for", () => {
  const cache = new KvCache(LAYOUT, 1, 10);
  assert.throws(() => cache.reserve(11), /holds 10 positions, not 11/);
  cache.reserve(10);
  cache.append(0, newPositions(0, 0, 8), 0, 8);
  assert.throws(() => cache.append(0, newPositions(0, 8, 3), 0, 3), /no room for 3 positions behind 8/);
});
