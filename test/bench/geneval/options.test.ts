import assert from "node:assert/strict";
import { test } from "node:test";
import { parseGenevalOptions } from "./options.js";

test("the embedded model comes with its encoder, others name theirs", () => {
  const options = parseGenevalOptions([])!;
  assert.equal(options.suite, "seen");
  assert.equal(options.images, 4);
  assert.deepEqual(options.settings, {});
  assert.ok(options.encoderFile!.endsWith("test/bench/judge/encoder.onnx"));
  assert.equal(parseGenevalOptions(["--bundle", "elsewhere"])!.encoderFile, undefined);
  assert.deepEqual(parseGenevalOptions(["--bundle", "one", "--bundle", "two"])!.bundles, ["one", "two"]);
  assert.equal(parseGenevalOptions(["--target", "127.0.0.1:1"])!.encoderFile, undefined);
});

test("flags become settings, and a wrong one is named with its rule", () => {
  const options = parseGenevalOptions(["--suite", "unseen", "--limit", "60", "--guidance", "2.5", "--top-k", "0", "--json"])!;
  assert.deepEqual([options.suite, options.limit, options.isJson, options.settings], ["unseen", 60, true, { guidanceScale: 2.5, topK: 0 }]);
  assert.throws(() => parseGenevalOptions(["--suite", "all"]), /`--suite` must be one of seen, unseen, got/);
  assert.throws(() => parseGenevalOptions(["--limit", "554"]), /`--limit` must be a whole number 1 \.\. 553, got/);
  assert.equal(parseGenevalOptions(["--help"]), undefined);
});
