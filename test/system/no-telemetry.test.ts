import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { makeImages, startTestStack } from "#test/doubles/start-stack.js";

/** Where one of these is set ONNX Runtime takes itself to be under test and reports nothing, which would hide that it does. */
const UNDER_TEST = ["CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "BUILDKITE"];

/** What the three services leave in a home directory of their own after an image. */
async function leftBehind(t: TestContext, env: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const home = mkdtempSync(join(tmpdir(), "tessera-home-"));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  const stack = await startTestStack({ env: { HOME: home, XDG_CACHE_HOME: "", ...Object.fromEntries(UNDER_TEST.map((name) => [name, ""])), ...env } });
  try {
    await makeImages(stack);
  } finally {
    await stack.stop();
  }
  return readdirSync(home, { recursive: true, encoding: "utf8" });
}

test("the services tell nobody how they are used: ONNX Runtime's telemetry leaves no trace", async (t) => {
  assert.deepEqual(await leftBehind(t, {}), []);
});

test("where its telemetry is allowed the same look finds its files", { skip: process.platform !== "linux" }, async (t) => {
  assert.notDeepEqual(await leftBehind(t, { ORT_DISABLE_TELEMETRY: "0" }), []);
});
