import assert from "node:assert/strict";
import { test } from "node:test";
import { openUniform, philox4x32 } from "./philox.js";

/** Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10). */
const KNOWN = [
  { counter: [0, 0, 0, 0], key: [0, 0], words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], key: [0xffffffff, 0xffffffff],
    words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], key: [0xa4093822, 0x299f31d0],
    words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
] as const;

test("philox4x32-10 gives the published known answers", () => {
  const out = new Uint32Array(4);
  for (const { counter: [c0, c1, c2, c3], key: [k0, k1], words } of KNOWN) {
    philox4x32(c0, c1, c2, c3, k0, k1, out);
    assert.deepEqual([...out], [...words]);
  }
});

test("openUniform never reaches 0 or 1", () => {
  assert.ok(openUniform(0) > 0);
  assert.ok(openUniform(0xffffffff) < 1);
});
