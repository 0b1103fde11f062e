import assert from "node:assert/strict";
import { test } from "node:test";
import { codeBasis, codebookSize, codeTable } from "./fsq.js";

const COSMOS = [8, 8, 8, 5, 5, 5];

/** Measured on the published quantizer. */
const KNOWN: readonly (readonly [token: number, codes: readonly number[]])[] = [
  [0, [-1, -1, -1, -1, -1, -1]], [1, [-0.75, -1, -1, -1, -1, -1]], [8, [-1, -0.75, -1, -1, -1, -1]],
  [64, [-1, -1, -0.75, -1, -1, -1]], [512, [-1, -1, -1, -0.5, -1, -1]], [2560, [-1, -1, -1, -1, -0.5, -1]],
  [12800, [-1, -1, -1, -1, -1, -0.5]], [32036, [0, 0, 0, 0, 0, 0]], [63999, [0.75, 0.75, 0.75, 1, 1, 1]],
  [12345, [-0.75, 0.75, -1, 1, 1, -1]], [54321, [-0.75, 0.5, -1, -0.5, -0.5, 1]],
];

test("codes of the Cosmos codebook are the published ones", () => {
  assert.equal(codebookSize(COSMOS), 64000);
  assert.deepEqual(codeBasis(COSMOS), [1, 8, 64, 512, 2560, 12800]);
  const table = codeTable(COSMOS);
  for (const [token, codes] of KNOWN) assert.deepEqual([...table.subarray(token * 6, token * 6 + 6)], codes, `${token}`);
});

test("every token of the Cosmos codebook comes back from its codes", () => {
  const table = codeTable(COSMOS);
  const basis = codeBasis(COSMOS);
  for (let token = 0; token < 64000; token++) {
    const digits = COSMOS.map((level, channel) => (table[token * 6 + channel] + 1) * Math.floor(level / 2));
    assert.equal(digits.reduce((sum, digit, channel) => sum + digit * basis[channel], 0), token);
  }
});
