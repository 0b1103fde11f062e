import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError, invalidRequest, overloaded } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { startDecoder } from "#services/decoder/start.js";
import { collect, DecoderStand, PROMPT, type GenerateImageInit } from "#test/doubles/decoder-stand.js";
import { tokenChunk, type GeneratorEvent } from "#test/doubles/fake-generator.js";

const stand = DecoderStand.forThisFile();

test("a generator with another bundle is refused", async () => {
  stand.fake.script = async function* () {
    yield stand.fake.started(7n, "e".repeat(64));
  };
  await assert.rejects(collect(stand.generate()), { kind: "mismatch", message: /another bundle/ });
});

test("the generator's errors come through as they are", async () => {
  stand.fake.script = () => {
    throw overloaded("the queue is full", 1500);
  };
  await assert.rejects(collect(stand.generate()), { kind: "overloaded", message: "the queue is full", retryDelayMs: 1500 });
  stand.fake.script = async function* () {
    yield stand.fake.started();
    throw invalidRequest("generation.guidance_scale", "1 .. 100", 0);
  };
  await assert.rejects(collect(stand.generate()), { kind: "invalid-request", violations: [{ field: "generation.guidance_scale", description: "must be 1 .. 100, got 0" }] });
});

test("a prefix of any length is the generator's to judge", async () => {
  stand.fake.script = () => {
    throw invalidRequest("generation.prefixes[0].tokens", "fewer than 16 tokens", 200_000);
  };
  const prefixes = [{ imageIndex: 0, tokens: Array.from({ length: 200_000 }, () => 1) }];
  await assert.rejects(collect(stand.generate({ generation: { prompt: "a", prefixes } })), { kind: "invalid-request" });
});

test("a generator that does not know the decoder's key is not ready, whoever the client is", async (t) => {
  t.mock.method(process.stderr, "write", () => true);
  for (const kind of ["unauthenticated", "permission-denied"] as const) {
    stand.fake.script = () => {
      throw new AppError(kind, "the key is not known");
    };
    await assert.rejects(collect(stand.generate()), { kind: "not-ready", message: "GeneratorService refuses this service's key" });
  }
});

test("a generator that breaks its promises is our own error, without details for the client", async () => {
  stand.fake.script = async function* () {
    yield stand.fake.started();
    yield tokenChunk(0, 2, [1]);
  };
  await assert.rejects(collect(stand.generate()), { kind: "internal", message: /^internal error [0-9a-f]+$/ });
});

test("a caller that leaves frees the generator, while it waits, draws tokens or draws previews", async () => {
  const moments: readonly [name: string, events: readonly GeneratorEvent[], init: GenerateImageInit][] = [
    ["queued", [{ event: { case: "queued", value: { position: 0 } } }], {}],
    ["mid-image", [stand.fake.started(), tokenChunk(0, 0, [1, 2, 3, 4])], {}],
    ["with previews", [stand.fake.started(), tokenChunk(0, 0, [1, 2, 3, 4])], { previewIntervalRows: 1 }],
  ];
  for (const [name, events, init] of moments) {
    const told = stand.fake.hangAfter(...events);
    const abort = new AbortController();
    const responses = stand.generate(init, { signal: abort.signal })[Symbol.asyncIterator]();
    for (const _ of events) assert.equal((await responses.next()).done, false, name);
    abort.abort();
    await assert.rejects(async () => { while (!(await responses.next()).done); }, { kind: "cancelled" }, name);
    await told;
  }
});

test("a consumer that stops reading frees the generator", async () => {
  const told = stand.fake.hangAfter(stand.fake.started(), tokenChunk(0, 0, [1]));
  for await (const { event } of stand.generate()) if (event.case === "progress") break;
  await told;
});

test("a deadline reaches the generator and ends a call that hangs there", async () => {
  const told = stand.fake.hangAfter(stand.fake.started());
  await assert.rejects(collect(stand.generate({}, { timeoutMs: 200 })), { kind: "deadline-exceeded" });
  await told;
});

test("a generator that dies mid-image, or is not there, is unavailable; the decoder goes on", async () => {
  const doomed = await stand.fake.start();
  const own = await startDecoder({
    address: "127.0.0.1:0", bundleFolder: stand.bundle.folder, generatorAddress: doomed.address, threads: 1, provider: "cpu",
  });
  const ownConnection = connect(DecoderService, own.address);
  try {
    void stand.fake.hangAfter(stand.fake.started());
    const responses = ownConnection.client.generateImage({ generation: { prompt: PROMPT } })[Symbol.asyncIterator]();
    await responses.next();
    const [, error] = await Promise.all([doomed.stop(0), responses.next().then(() => undefined, (reason: unknown) => reason)]);
    assert.equal((error as { kind?: string }).kind, "not-ready");
    await assert.rejects(collect(ownConnection.client.generateImage({ generation: { prompt: PROMPT } })), { kind: "not-ready" });
    assert.equal((await ownConnection.client.getDecoderInfo({})).model?.digest, stand.bundle.digest);
  } finally {
    ownConnection.close();
    await own.stop(0);
    await doomed.stop(0);
  }
});

