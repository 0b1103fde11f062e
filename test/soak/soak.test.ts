import assert from "node:assert/strict";
import { test } from "node:test";
import { runSoak } from "./soak.js";
import { violationsOf } from "./verdict.js";

test("a hundred disturbed requests: no image is wrong, no client unanswered, nothing left behind", async (t) => {
  const report = await runSoak({ requests: 100, clients: 8, recipes: 6, seed: 1, kills: 2 });
  t.diagnostic(JSON.stringify(report.outcomes));
  t.diagnostic(`${report.images} images in ${report.seconds} s`);
  assert.deepEqual(violationsOf(report), []);
  assert.ok(report.images >= 50, `there was something to compare: ${report.images} images`);
});
