import assert from "node:assert/strict";
import { test } from "node:test";
import { KvSlots } from "./kv-slots.js";

test("rows in use stay side by side, whoever leaves", () => {
  const slots = new KvSlots(7);
  for (const [owner, rows] of [[1, 2], [2, 1], [3, 2], [4, 2]]) {
    slots.reserve(owner, rows);
    slots.place(owner);
  }
  assert.deepEqual(slots.release(1), [{ from: 6, to: 1 }, { from: 5, to: 0 }]);
  assert.deepEqual([slots.rowsOf(2), slots.rowsOf(3), slots.rowsOf(4)], [[2], [3, 4], [0, 1]]);
  assert.deepEqual(slots.snapshot, { total: 7, reserved: 5, placed: 5 });
  assert.deepEqual(slots.checkInvariants(), []);
});

test("a pair is reserved whole or not at all", () => {
  const slots = new KvSlots(3);
  slots.reserve(1, 2);
  assert.throws(() => slots.reserve(2, 2), /wants 2 rows, 1 are free/);
  assert.equal(slots.free, 1);
  slots.reserve(2, 1);
  assert.throws(() => slots.reserve(2, 1), /has reserved its rows already/);
});

test("reserved rows are released whether they were placed or not, and only once", () => {
  const slots = new KvSlots(4);
  slots.reserve(1, 2);
  assert.deepEqual(slots.release(1), []);
  assert.throws(() => slots.release(1), /has no rows to release/);
  assert.throws(() => slots.rowsOf(1), /has no rows/);
  assert.equal(slots.free, 4);
});

test("contents follow the moves through any coming and going", () => {
  const slots = new KvSlots(12);
  const content: (number | undefined)[] = [];
  const here: number[] = [];
  let throwDice = 1;
  for (let owner = 0; owner < 500; owner++) {
    throwDice = (throwDice * 48_271) % 2_147_483_647;
    const rows = 1 + (throwDice % 2);
    while (slots.free < rows) {
      const [leaving] = here.splice(throwDice % here.length, 1);
      for (const { from, to } of slots.release(leaving)) content[to] = content[from];
    }
    slots.reserve(owner, rows);
    for (const row of slots.place(owner)) content[row] = owner;
    here.push(owner);
    for (const each of here) for (const row of slots.rowsOf(each)) assert.equal(content[row], each);
    assert.deepEqual(slots.checkInvariants(), []);
  }
});
