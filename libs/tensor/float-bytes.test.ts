import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesOfFloats, floatsOfBytes } from "./float-bytes.js";

test("numbers survive the wire, from a view of a larger buffer at any offset, as a Buffer too", () => {
  const values = Float32Array.of(1.5, -2, 1e-30, Infinity);
  const inside = Buffer.concat([Buffer.from([7]), bytesOfFloats(values), Buffer.from([7])]).subarray(1, 17);
  const received = floatsOfBytes(inside);
  assert.deepEqual(received, values);
  received[0] = 9;
  assert.deepEqual(floatsOfBytes(inside), values, "what is received is a copy");
  assert.deepEqual(bytesOfFloats(values.subarray(1, 2)), new Uint8Array([0, 0, 0, 192]));
  assert.throws(() => floatsOfBytes(new Uint8Array(5)), { kind: "internal" });
});
