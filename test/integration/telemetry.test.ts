import assert from "node:assert/strict";
import { createServer, type AddressInfo, type Server } from "node:net";
import { test, type TestContext } from "node:test";
import { Metadata } from "nice-grpc";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { pathToRoot, startOtlpReceiver, type ReceivedSpan } from "#test/doubles/otlp-receiver.js";
import { startProcess, type ServiceProcess } from "#test/doubles/service-process.js";

const HOP = new URL("../doubles/hop.js", import.meta.url);
const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN_ID = "b7ad6b7169203331";
const PROMPT = "a very private prompt";

/** Tokenizer, generator and decoder in a row; the last one is what a client talks to. */
async function startChain(t: TestContext, mode: string, env: Readonly<Record<string, string>>) {
  const tokenizer = await startProcess(t, HOP, { args: ["tokenizer", "answer"], env });
  const generator = await startProcess(t, HOP, { args: ["generator", mode, tokenizer.address], env });
  const decoder = await startProcess(t, HOP, { args: ["decoder", "answer", generator.address], env });
  return [tokenizer, generator, decoder] as const;
}

/** A call in the trace of a caller that is not ours. */
function generate(t: TestContext, address: string) {
  const { client, close } = connect(GeneratorService, address);
  t.after(close);
  const metadata = Metadata({ traceparent: `00-${TRACE_ID}-${CALLER_SPAN_ID}-01` });
  return client.generate({ generation: { prompt: PROMPT } }, { metadata });
}

function named(spans: readonly ReceivedSpan[], name: string): ReceivedSpan {
  const found = spans.filter((span) => span.name === name);
  assert.equal(found.length, 1, `one span ${name}`);
  return found[0];
}

const GENERATE = "tessera.v1.GeneratorService/Generate";
const ENCODE = "tessera.v1.TokenizerService/Encode";

/** From the generator's side of the call up to the caller. */
const TO_CALLER = [
  `tessera-generator server ${GENERATE}`,
  `tessera-decoder client ${GENERATE}`,
  "tessera-decoder internal transfer",
  `tessera-decoder server ${GENERATE}`,
];
const SPAN_COUNT = 8;

test("one trace runs through three processes, unary and streaming", async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.close());
  const chain = await startChain(t, "answer", receiver.env);
  for await (const _response of generate(t, chain[2].address));
  assert.deepEqual(await Promise.all(chain.map((hop) => hop.stop())), [0, 0, 0]);

  const { spans } = receiver;
  assert.equal(spans.length, SPAN_COUNT);
  assert.deepEqual(new Set(spans.map((span) => span.traceId)), new Set([TRACE_ID]));
  assert.deepEqual(pathToRoot(named(spans, "tokenize"), spans), [
    "tessera-tokenizer internal tokenize",
    `tessera-tokenizer server ${ENCODE}`,
    `tessera-generator client ${ENCODE}`,
    ...TO_CALLER,
  ]);
  assert.deepEqual(pathToRoot(named(spans, "decode"), spans), ["tessera-generator internal decode", ...TO_CALLER]);
  const root = spans.find((span) => span.parentSpanId === CALLER_SPAN_ID);
  assert.equal(root?.service, "tessera-decoder");
  assert.ok(spans.filter((span) => span.kind !== "internal").every((s) => s.attributes["rpc.grpc.status_code"] === 0));

  assert.ok(receiver.metrics.has("rpc.server.duration") && receiver.metrics.has("rpc.client.duration"));
  assert.ok(!receiver.text.includes(PROMPT), "no prompt leaves by telemetry");
});

test("every span is exported after a cancel, marked as cancelled", async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.close());
  const [, , decoder] = await startChain(t, "wait", receiver.env);
  for await (const _response of generate(t, decoder.address)) break;
  await receiver.until((spans) => spans.length === SPAN_COUNT);

  const { spans } = receiver;
  assert.deepEqual(new Set(spans.map((span) => span.traceId)), new Set([TRACE_ID]));
  assert.deepEqual(pathToRoot(named(spans, "decode"), spans), ["tessera-generator internal decode", ...TO_CALLER]);
  assert.equal(named(spans, "decode").attributes["error.type"], "cancelled");
  const streams = spans.filter((span) => span.name === GENERATE);
  assert.deepEqual(streams.map((span) => span.attributes["rpc.grpc.status_code"]), [1, 1, 1]);
});

/** A tokenizer that has just answered one call, so that it has something to send. */
async function startUsed(t: TestContext, env: Readonly<Record<string, string>>): Promise<ServiceProcess> {
  const tokenizer = await startProcess(t, HOP, { args: ["tokenizer", "answer"], env });
  const { client, close } = connect(TokenizerService, tokenizer.address);
  t.after(close);
  await client.encode({ prompt: PROMPT });
  return tokenizer;
}

async function listen(t: TestContext, server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test("a process stops cleanly without its collector", { timeout: 60_000 }, async (t) => {
  const closed = createServer();
  const port = await listen(t, closed);
  closed.close();
  const tokenizer = await startUsed(t, { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` });
  assert.equal(await tokenizer.stop(), 0);
});

test("a process stops cleanly when its collector never answers", { timeout: 60_000 }, async (t) => {
  const port = await listen(t, createServer((socket) => {
    t.after(() => socket.destroy());
  }));
  const tokenizer = await startUsed(t, { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` });
  assert.equal(await tokenizer.stop(), 0);
});

test("metrics can be read by Prometheus", async (t) => {
  const free = createServer();
  const port = await listen(t, free);
  await new Promise((resolve) => free.close(resolve));
  await startUsed(t, { OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: String(port) });
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  assert.match(text, /^rpc_server_duration_count\{.*rpc_method="Encode".*\} 1$/m);
});
