import assert from "node:assert/strict";
import { test } from "node:test";
import { PreviewLine } from "./preview-line.js";

test("one is drawn at a time, and only the newest of an image waits", () => {
  const line = new PreviewLine<string>();
  assert.equal(line.take(), undefined);
  line.offer(0, "row 1");
  assert.equal(line.take(), "row 1");
  line.offer(0, "row 2");
  line.offer(0, "row 3");
  assert.equal(line.take(), undefined);
  line.drawn();
  assert.equal(line.take(), "row 3");
  line.drawn();
  assert.equal(line.take(), undefined);
});

test("images take turns, whoever is renewed most often", () => {
  const line = new PreviewLine<string>();
  line.offer(0, "a1");
  line.offer(1, "b1");
  line.offer(0, "a2");
  assert.equal(line.take(), "a2");
  line.offer(0, "a3");
  line.drawn();
  assert.equal(line.take(), "b1");
  line.drawn();
  assert.equal(line.take(), "a3");
});

test("a complete image needs no preview", () => {
  const line = new PreviewLine<string>();
  line.offer(0, "a1");
  line.offer(1, "b1");
  line.drop(0);
  line.drop(5);
  assert.equal(line.take(), "b1");
});
