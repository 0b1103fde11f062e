import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

test("the benchmark runs as it comes, and its ratios are those of the runs it reports", { timeout: 300_000 }, async () => {
  const args = ["ecar", "--limit", "6", "--rounds", "1", "--evaluations", "12", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, [join(import.meta.dirname, "..", "main.js"), ...args]);
  const report = JSON.parse(stdout);
  const { ecars, dits, discrete, ecar } = report;
  assert.deepEqual([ecars, dits].map((runs) => runs.map(({ name }: { name: string }) => name)), [
    ["E-CAR, guidance 1.5", "E-CAR, no guidance"], ["DiT, 12 evaluations", "DiT, 8 evaluations"],
  ]);
  for (const { score, seconds, batchSeconds } of [...ecars, ...dits, discrete]) {
    assert.ok(score >= 0 && score <= 1 && seconds > 0 && batchSeconds > 0);
  }
  const best = dits.find(({ name }: { name: string }) => name === report.against);
  assert.equal(report.ditScore, best.score);
  assert.equal(report.score, ecar.score);
  assert.ok(Math.abs(report.macRatio / (best.macs / ecar.macs) - 1) < 0.001);
  assert.ok(Math.abs(report.timeRatio / (best.seconds / ecar.seconds) - 1) < 0.01);
});
