import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { DEFAULT_BUNDLE, openBundle } from "#libs/bundle/bundle.js";

const MODELS = join(DEFAULT_BUNDLE, "..");
const EXPECTED = [
  { name: "emoji-96", family: "simplear", maxBytes: 40e6, metrics: ["codecPsnrDb", "heldOutLossNats"] },
  { name: "emoji-ecar-96", family: "ecar", maxBytes: 20e6, metrics: ["codecPsnrDb", "heldOutLossOfStage3", "ditHeldOutLoss"] },
];

for (const { name, family, maxBytes, metrics } of EXPECTED) {
  test(`${name} is whole, small, and says what it is and where it comes from`, async () => {
    const { manifest } = await openBundle(join(MODELS, name));
    const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
    assert.ok(bytes < maxBytes, `${bytes} bytes`);
    assert.deepEqual([manifest.name, manifest.family, manifest.licence], [name, family, "Apache-2.0"]);
    for (const key of ["art", "captions", "recipe", "commit"]) assert.ok(manifest.provenance[key], `provenance.${key}`);
    for (const key of metrics) assert.ok(manifest.metrics[key]! > 0, `metrics.${key}`);
  });

  test(`NOTICE names every work that ${name} learned from`, async () => {
    const { manifest } = await openBundle(join(MODELS, name), { verify: false });
    const notice = await readFile(join(MODELS, "..", "..", "NOTICE"), "utf8");
    assert.ok(notice.includes(`libs/models/${name} `), name);
    for (const work of manifest.provenance["art"]!.split(", ")) {
      const title = work.replace(/ \(.*\)$/, "");
      assert.match(notice.replaceAll(/[()]/g, "").toLowerCase(), new RegExp(title.toLowerCase()));
    }
  });
}
