import assert from "node:assert/strict";
import { test } from "node:test";
import { previewTokens, tokenDigest, TokenGrid } from "./token-grid.js";

const shape = { gridHeight: 3, gridWidth: 2, codebookSize: 10 };

test("tokens arrive in chunks of any size", () => {
  const grid = new TokenGrid(shape);
  assert.deepEqual([grid.rowsDone, grid.isComplete], [0, false]);
  grid.append(0, [1, 2, 3]);
  assert.deepEqual([grid.rowsDone, grid.isComplete], [1, false]);
  grid.append(3, [4]);
  grid.append(4, [5, 9]);
  assert.deepEqual([grid.rowsDone, grid.isComplete], [3, true]);
  assert.deepEqual(grid.tokens, Uint32Array.of(1, 2, 3, 4, 5, 9));
});

test("a gap, an overlap, an overrun, an empty chunk or a foreign token is the generator's fault", () => {
  const grid = new TokenGrid(shape);
  grid.append(0, [1, 2]);
  const broken: readonly [offset: number, tokens: readonly number[], message: RegExp][] = [
    [3, [1], /must start at 2, got 3/], [0, [1], /must start at 2, got 0/], [2, [1, 2, 3, 4, 5], /1 \.\. 4 tokens, got 5/],
    [2, [], /1 \.\. 4 tokens, got 0/], [2, [1, 10], /must be 0 \.\. 9, got 10/],
  ];
  for (const [offset, tokens, message] of broken) {
    assert.throws(() => grid.append(offset, tokens), { kind: "internal", message });
  }
  assert.deepEqual(grid.tokens, Uint32Array.of(1, 2));
});

test("a preview is filled up with the most frequent token so far", () => {
  assert.deepEqual(previewTokens(Uint32Array.of(1, 2, 2), shape), Uint32Array.of(1, 2, 2, 2, 2, 2));
  assert.deepEqual(previewTokens(Uint32Array.of(2, 1, 1, 2), shape), Uint32Array.of(2, 1, 1, 2, 2, 2));
  const whole = Uint32Array.of(1, 2, 3, 4, 5, 6);
  assert.deepEqual(previewTokens(whole, shape), whole);
});

test("the digest is SHA-256 of little-endian words", () => {
  // Made with Python's hashlib and struct.
  assert.equal(tokenDigest(Uint32Array.of(0, 258, 4294967295)), "4d50f2dbbc922b9da586818b215c0a0542460f1416e6aa1b8d149fbc78acaa3a");
});
