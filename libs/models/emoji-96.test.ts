import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { DEFAULT_BUNDLE, openTokenBundle } from "#libs/bundle/bundle.js";

const MAX_BUNDLE_BYTES = 40e6;

test("the embedded model is whole, small, and says what it is and where it comes from", async () => {
  const { manifest } = await openTokenBundle(DEFAULT_BUNDLE);
  const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
  assert.ok(bytes < MAX_BUNDLE_BYTES, `${bytes} bytes`);
  assert.equal(manifest.licence, "Apache-2.0");
  for (const key of ["art", "captions", "recipe", "commit"]) assert.ok(manifest.provenance[key], `provenance.${key}`);
  for (const key of ["codecPsnrDb", "heldOutLossNats"]) assert.ok(manifest.metrics[key]! > 0, `metrics.${key}`);
});

test("NOTICE names every work that the embedded model learned from", async () => {
  const { manifest } = await openTokenBundle(DEFAULT_BUNDLE, { verify: false });
  const notice = await readFile(join(DEFAULT_BUNDLE, "..", "..", "..", "NOTICE"), "utf8");
  for (const work of manifest.provenance["art"]!.split(", ")) {
    const name = work.replace(/ \(.*\)$/, "");
    assert.match(notice.replaceAll(/[()]/g, "").toLowerCase(), new RegExp(name.toLowerCase()));
  }
});
