import assert from "node:assert/strict";
import { test } from "node:test";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { openHealthProbe, type Health } from "#libs/rpc/health.js";
import { engineLimits } from "#services/generator/engine-limits.js";
import { ThreadEngine } from "#services/generator/engine/thread-engine.js";
import { REQUEST } from "#test/doubles/engine-run.js";
import { GeneratorCall, startGeneratorStand } from "#test/doubles/generator-stand.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

test("health says NOT_SERVING under every name while work waits and no step completes in time, and comes back", async (t) => {
  // A busy engine reports every 50 ms: by this measure it hangs as long as it works.
  const stand = await startGeneratorStand({ bundleFolder: await slowBundle(48), stallMs: 1 });
  const probes = ["", "tessera.v1.GeneratorService", "live"].map((name) => openHealthProbe(stand.address, name));
  t.after(async () => {
    for (const probe of probes) probe.close();
    await stand.stop();
  });
  const until = async (wanted: Health) => {
    for (const probe of probes) while (await probe.check() !== wanted);
  };
  await until("serving");
  const call = new GeneratorCall(stand, { imageCount: 16 });
  await call.until((event) => event.case === "tokenChunk");
  await until("not-serving");
  assert.equal((await stand.client.getGeneratorInfo({})).running, 1, "calls are still answered");
  await call.cancel();
  await until("serving");
});

test("an engine is stalled while it has work and is silent, but neither when idle nor when its reader is slow", async (t) => {
  const bundle = await openTokenBundle(await tinyBundle());
  const { manifest } = bundle;
  const engine = await ThreadEngine.open({
    graphFile: bundle.path(manifest.transformer.file), manifest, session: { threads: 1, provider: "cpu" },
    limits: engineLimits(manifest, { maxRunning: 1, kvCacheMib: 64, maxQueueLength: 1 }),
  });
  t.after(() => engine.close());
  assert.equal(engine.isStalled(-1), false);
  const events = engine.generate(REQUEST, { signal: new AbortController().signal });
  const first = events.next();
  assert.equal(engine.isStalled(-1), true, "it has work, and was heard longer ago than that");
  assert.equal(engine.isStalled(60_000), false);
  await first;
  while (engine.snapshot.counters.imageTokens === 0) await new Promise(setImmediate);
  assert.equal(engine.isStalled(-1), false, "the work is done, only the reader is not");
  for await (const _ of events);
  assert.equal(engine.isStalled(-1), false);
});
