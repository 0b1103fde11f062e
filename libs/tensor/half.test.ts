import assert from "node:assert/strict";
import { test } from "node:test";
import { floatsFromBfloat16, floatsFromHalves, halvesFromFloats } from "./half.js";

test("every finite binary16 word survives the way to binary32 and back", () => {
  const words = Uint16Array.from({ length: 65536 }, (_, word) => word).filter((word) => (word & 0x7c00) !== 0x7c00);
  assert.deepEqual(halvesFromFloats(floatsFromHalves(words)), words);
});

test("halves round to nearest, ties to even, and overflow to infinity", () => {
  const cases: readonly (readonly [number, number])[] = [
    [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [1 + 2 ** -11 + 2 ** -20, 0x3c01], [2 ** -25, 0x0000],
    [3 * 2 ** -25, 0x0002], [2 ** -24, 0x0001], [65504, 0x7bff], [65519, 0x7bff], [65520, 0x7c00], [-Infinity, 0xfc00],
    [-0, 0x8000], [NaN, 0x7e00],
  ];
  for (const [value, word] of cases) assert.equal(halvesFromFloats(new Float32Array([value]))[0], word, `${value}`);
});

test("special binary16 words widen to what they mean", () => {
  const values = floatsFromHalves(new Uint16Array([0x7c00, 0xfc00, 0x7e00, 0x0001, 0x8000]));
  assert.deepEqual([...values], [Infinity, -Infinity, NaN, 2 ** -24, -0]);
});

test("bfloat16 words widen to the same upper bits", () => {
  const words = Uint16Array.from({ length: 65536 }, (_, word) => word);
  const bits = new Uint32Array(floatsFromBfloat16(words).buffer);
  assert.ok(words.every((word, index) => bits[index] === word * 65536));
});

test("words are widened and narrowed within one buffer", () => {
  const words = Uint16Array.from({ length: 1000 }, (_, index) => 0x3c00 + index);
  for (const widen of [floatsFromHalves, floatsFromBfloat16]) {
    const values = new Float32Array(words.length);
    const end = new Uint16Array(values.buffer, values.byteLength / 2);
    end.set(words);
    assert.equal(widen(end, values), values);
    assert.deepEqual(values, widen(words));
  }
  const values = floatsFromHalves(words);
  assert.deepEqual(halvesFromFloats(values, new Uint16Array(values.buffer, 0, values.length)), words);
});
