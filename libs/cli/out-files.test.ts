import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { defaultOutFile, numberedFile, previewFile } from "./out-files.js";

test("a picture is named after prompt and seed", () => {
  assert.equal(defaultOutFile("Three red apples!", 42n), join("out", "three-red-apples-42.png"));
  assert.equal(defaultOutFile("../../etc/passwd", 1n), join("out", "etc-passwd-1.png"));
  assert.equal(defaultOutFile("Äpfel 苹果", 2n), join("out", "äpfel-苹果-2.png"));
  assert.equal(defaultOutFile("🍎", 3n), join("out", "image-3.png"));
  assert.equal(defaultOutFile("apple ".repeat(100), 4n).length, "out/-4.png".length + 47);
});

test("several pictures and previews are numbered", () => {
  assert.equal(numberedFile(join("a.b", "apples.png"), 3), join("a.b", "apples-3.png"));
  assert.equal(previewFile("p", 0, 7), join("p", "0-007.jpg"));
});
