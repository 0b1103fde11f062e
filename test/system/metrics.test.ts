import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { freePorts } from "#libs/cli/free-ports.js";
import { ServiceProcess, type ServiceName } from "#libs/cli/service-process.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { METRICS, prometheusName, type Metric } from "#libs/telemetry/names.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

const STOP_GRACE_MS = 10_000;

/** Rows of tokens: a few seconds of work, time enough for previews. */
const GRID_SIZE = 24;

/** What Prometheus or the SDK adds to every process. */
const FOREIGN = /^(target_info|otel_|promhttp_)/;

/** Three processes that serve /metrics; one image runs at a time, and none may wait. */
async function startAll(t: TestContext): Promise<{ readonly client: ServiceClient<typeof DecoderService>; scrape(): Promise<string> }> {
  const names: readonly ServiceName[] = ["tokenizer", "generator", "decoder"];
  const ports = await freePorts(6);
  const [tokenizer, generator, decoder] = ports.slice(0, 3).map((port) => `127.0.0.1:${port}`);
  const bundle = await slowBundle(GRID_SIZE);
  const services = await Promise.all(names.map((name, index) => ServiceProcess.start(name, {
    env: {
      TESSERA_ADDRESS: `127.0.0.1:${ports[index]}`, TESSERA_TOKENIZER_ADDRESS: tokenizer, TESSERA_GENERATOR_ADDRESS: generator,
      TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", TESSERA_MAX_QUEUE: "0", TESSERA_MAX_RUNNING: "1",
      OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: String(ports[index + 3]),
    },
  })));
  t.after(() => Promise.all(services.map((service) => service.stop(STOP_GRACE_MS))));
  const { client, close } = connect(DecoderService, decoder);
  t.after(close);
  const scrape = async () => {
    const pages = await Promise.all(ports.slice(3).map(async (port) => (await fetch(`http://127.0.0.1:${port}/metrics`)).text()));
    return pages.join("\n");
  };
  return { client, scrape };
}

test("services export every metric that is declared, by its type, and no other", async (t) => {
  const { client, scrape } = await startAll(t);
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

  const page = await scrape();
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
