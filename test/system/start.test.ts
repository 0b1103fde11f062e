import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { waitForServing } from "#libs/rpc/health.js";
import { childrenOf, isAlive, runCommandLine, startCommand } from "#test/doubles/run-command.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

const DECODER = "127.0.0.1:50053";
const START_TIMEOUT_MS = 60_000;

test("start runs the services on their standard ports, generate uses them, Ctrl-C ends all", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "tessera-start-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const command = startCommand("start", ["--bundle", await tinyBundle()]);
  t.after(() => command.kill("SIGKILL"));
  const signal = AbortSignal.timeout(START_TIMEOUT_MS);
  for (const address of ["127.0.0.1:50051", "127.0.0.1:50052", DECODER]) await waitForServing(address, { signal });
  const services = childrenOf(command.pid);
  assert.equal(services.length, 3);

  const args = ["a dog", "--target", DECODER, "--out", join(folder, "dog.png"), "--json"];
  const { code, stdout, stderr } = await runCommandLine("generate", args);
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout.trimEnd().split("\n").at(-1)!).file, join(folder, "dog.png"));

  command.kill("SIGINT");
  assert.equal((await command.ended).code, 0);
  assert.deepEqual(services.filter(isAlive), []);
});
