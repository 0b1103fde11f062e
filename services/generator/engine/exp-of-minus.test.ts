import assert from "node:assert/strict";
import { test } from "node:test";
import { expOfMinus } from "./exp-of-minus.js";

test("agrees with the exponential to 1e-6, and ends at 32", () => {
  for (let x = 0; x < 32; x += 0.00317) {
    assert.ok(Math.abs(expOfMinus(x) / Math.exp(-x) - 1) < 1e-6, `${x}`);
  }
  assert.equal(expOfMinus(0), 1);
  for (const x of [32, 1e9, Infinity]) assert.equal(expOfMinus(x), 0);
});
