import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { COMPILED_FILE, compileLawKernel } from "./compile.js";

test("the committed kernel is what its source compiles to", async () => {
  assert.equal(readFileSync(COMPILED_FILE, "utf8"), await compileLawKernel());
});
