import assert from "node:assert/strict";
import { test } from "node:test";
import { SERVICE_NAMES } from "#libs/cli/service-process.js";
import { METRICS, prometheusName, type Metric } from "#libs/telemetry/names.js";
import { startMetricsStack } from "#test/doubles/metrics-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

/** Rows of tokens: a few seconds of work, time enough for previews. */
const GRID_SIZE = 24;

/** What Prometheus or the SDK adds to every process. */
const FOREIGN = /^(target_info|otel_|promhttp_)/;

test("services export every metric that is declared, by its type, and no other", async (t) => {
  // One image runs at a time, and none may wait.
  const env = { TESSERA_MAX_QUEUE: "0", TESSERA_MAX_RUNNING: "1" };
  const { client, scrape } = await startMetricsStack(t, await slowBundle(GRID_SIZE), env);
  const generation = { prompt: "a private dog", seed: 1n };
  const cancel = new AbortController();
  const running = client.generateImage({ generation }, { signal: cancel.signal })[Symbol.asyncIterator]();
  while ((await running.next()).value?.event.case !== "progress");
  await assert.rejects(async () => {
    for await (const _ of client.generateImage({ generation }));
  }, { kind: "overloaded" });
  cancel.abort();
  await assert.rejects(async () => {
    while (!(await running.next()).done);
  }, { kind: "cancelled" });
  const whole = async () => {
    for await (const _ of client.generateImage({ generation, previewIntervalRows: 1 }));
  };
  // The slot of the cancelled image may take a step to come free.
  for (;;) {
    const error = await whole().then(() => undefined, (reason: { kind: string }) => reason);
    if (error === undefined) break;
    assert.equal(error.kind, "overloaded");
  }

  const page = (await Promise.all(SERVICE_NAMES.map(scrape))).join("\n");
  const exported = new Map([...page.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]));
  const declared = new Map(Object.values(METRICS).map((metric: Metric) => [prometheusName(metric), metric.type]));
  for (const name of [...exported.keys()].filter((one) => FOREIGN.test(one))) exported.delete(name);
  assert.deepEqual(Object.fromEntries([...exported].sort()), Object.fromEntries([...declared].sort()));

  for (const edge of ['from="decoder",to="generator"', 'from="generator",to="decoder"', 'from="generator",to="tokenizer"', 'from="tokenizer",to="generator"']) {
    const [, bytes] = new RegExp(`^ar_edge_bytes_total\\{${edge}[^}]*\\} (\\d+)$`, "m").exec(page) ?? [];
    assert.ok(Number(bytes) > 0, edge);
  }
  assert.match(page, /^ar_rejections_total\{reason="queue-full"[^}]*\} [1-9]/m);
  assert.ok(!page.includes("private"));
});
