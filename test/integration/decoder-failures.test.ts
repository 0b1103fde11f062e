import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { openBundle, type Bundle } from "#libs/bundle/bundle.js";
import { invalidRequest, overloaded } from "#libs/errors/errors.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { Definition } from "#libs/rpc/definition.js";
import { DecoderService, type GenerateImageRequestSchema, type GenerateImageResponse } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { RunningServer } from "#libs/rpc/server.js";
import type { RunningService } from "#libs/rpc/service.js";
import { startDecoder } from "#services/decoder/start.js";
import { FakeGenerator, tokenChunk, type GeneratorEvent } from "#test/doubles/fake-generator.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

type GenerateImageInit = MessageInitShape<typeof GenerateImageRequestSchema>;

const PROMPT = "a secret prompt";
let bundle: Bundle;
let fake: FakeGenerator;
let generator: RunningServer;
let decoder: RunningService;
let connection: Connection<Definition<(typeof DecoderService)["method"]>>;

before(async () => {
  bundle = await openBundle(await tinyBundle());
  fake = new FakeGenerator(bundle);
  generator = await fake.start();
  decoder = await startDecoder({
    address: "127.0.0.1:0", bundleFolder: bundle.folder, generatorAddress: generator.address, threads: 1, provider: "cpu",
  });
  connection = connect(DecoderService, decoder.address);
});

beforeEach(() => {
  fake.script = (request) => fake.drawn(request);
});

after(async () => {
  connection.close();
  await decoder.stop();
  await generator.stop();
});

const generate = (init: GenerateImageInit = {}, options: { signal?: AbortSignal; timeoutMs?: number } = {}) =>
  connection.client.generateImage({ generation: { prompt: PROMPT, seed: 7n }, ...init } as GenerateImageInit, options);

async function collect(responses: AsyncIterable<GenerateImageResponse>): Promise<GenerateImageResponse["event"][]> {
  const events: GenerateImageResponse["event"][] = [];
  for await (const { event } of responses) events.push(event);
  return events;
}

test("a generator with another bundle is refused", async () => {
  fake.script = async function* () {
    yield fake.started(7n, "e".repeat(64));
  };
  await assert.rejects(collect(generate()), { kind: "mismatch", message: /another bundle/ });
});

test("the generator's errors come through as they are", async () => {
  fake.script = () => {
    throw overloaded("the queue is full", 1500);
  };
  await assert.rejects(collect(generate()), { kind: "overloaded", message: "the queue is full", retryDelayMs: 1500 });
  fake.script = async function* () {
    yield fake.started();
    throw invalidRequest("generation.guidance_scale", "1 .. 100", 0);
  };
  await assert.rejects(collect(generate()), { kind: "invalid-request", violations: [{ field: "generation.guidance_scale", description: "must be 1 .. 100, got 0" }] });
});

test("a generator that breaks its promises is our own error, without details for the client", async () => {
  fake.script = async function* () {
    yield fake.started();
    yield tokenChunk(0, 2, [1]);
  };
  await assert.rejects(collect(generate()), { kind: "internal", message: /^internal error [0-9a-f]+$/ });
});

test("a caller that leaves frees the generator, while it waits, draws tokens or draws previews", async () => {
  const moments: readonly [name: string, events: readonly GeneratorEvent[], init: GenerateImageInit][] = [
    ["queued", [{ event: { case: "queued", value: { position: 0 } } }], {}],
    ["mid-image", [fake.started(), tokenChunk(0, 0, [1, 2, 3, 4])], {}],
    ["with previews", [fake.started(), tokenChunk(0, 0, [1, 2, 3, 4])], { previewIntervalRows: 1 }],
  ];
  for (const [name, events, init] of moments) {
    const told = fake.hangAfter(...events);
    const abort = new AbortController();
    const responses = generate(init, { signal: abort.signal })[Symbol.asyncIterator]();
    for (const _ of events) assert.equal((await responses.next()).done, false, name);
    abort.abort();
    await assert.rejects(async () => { while (!(await responses.next()).done); }, { kind: "cancelled" }, name);
    await told;
  }
});

test("a consumer that stops reading frees the generator", async () => {
  const told = fake.hangAfter(fake.started(), tokenChunk(0, 0, [1]));
  for await (const { event } of generate()) if (event.case === "progress") break;
  await told;
});

test("a deadline reaches the generator and ends a call that hangs there", async () => {
  const told = fake.hangAfter(fake.started());
  await assert.rejects(collect(generate({}, { timeoutMs: 200 })), { kind: "deadline-exceeded" });
  await told;
});

test("a generator that dies mid-image, or is not there, is unavailable; the decoder goes on", async () => {
  const doomed = await fake.start();
  const own = await startDecoder({
    address: "127.0.0.1:0", bundleFolder: bundle.folder, generatorAddress: doomed.address, threads: 1, provider: "cpu",
  });
  const ownConnection = connect(DecoderService, own.address);
  try {
    void fake.hangAfter(fake.started());
    const responses = ownConnection.client.generateImage({ generation: { prompt: PROMPT } })[Symbol.asyncIterator]();
    await responses.next();
    const [, error] = await Promise.all([doomed.stop(0), responses.next().then(() => undefined, (reason: unknown) => reason)]);
    assert.equal((error as { kind?: string }).kind, "not-ready");
    await assert.rejects(collect(ownConnection.client.generateImage({ generation: { prompt: PROMPT } })), { kind: "not-ready" });
    assert.equal((await ownConnection.client.getDecoderInfo({})).model?.digest, bundle.digest);
  } finally {
    ownConnection.close();
    await own.stop(0);
    await doomed.stop(0);
  }
});

