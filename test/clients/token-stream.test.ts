import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import type { GenerationInit } from "#libs/clients/resumed.js";
import { tokenStream, type TokenEvent } from "#libs/clients/token-stream.js";
import { AppError, notReady, overloaded } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService, type GenerateRequest } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { RunningServer } from "#libs/rpc/server.js";
import { FakeGenerator, tokenChunk, type Script } from "#test/doubles/fake-generator.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

let fake: FakeGenerator;
let server: RunningServer;
let connection: ReturnType<typeof connect<(typeof GeneratorService)["method"]>>;

before(async () => {
  fake = new FakeGenerator(await openTokenBundle(await tinyBundle()));
  server = await fake.start();
  connection = connect(GeneratorService, server.address);
});

after(async () => {
  connection.close();
  await server.stop(0);
});

/** Answer each call by the next script; the last one for good. @returns the generations that were asked for. */
function answerBy(...scripts: readonly Script[]): GenerateRequest["generation"][] {
  const asked: GenerateRequest["generation"][] = [];
  fake.script = (request, context) => {
    asked.push(request.generation);
    return scripts[Math.min(asked.length, scripts.length) - 1](request, context);
  };
  return asked;
}

async function collect(generation: GenerationInit, options = {}): Promise<TokenEvent[]> {
  const events: TokenEvent[] = [];
  for await (const event of tokenStream(connection.client, generation, options)) events.push(event);
  return events;
}

const tokensOf = (events: readonly TokenEvent[], imageIndex: number) =>
  events.flatMap((event) => (event.type === "tokens" && event.imageIndex === imageIndex ? event.tokens : []));

test("tokens come without gaps, each image is finished once", async () => {
  answerBy((request) => fake.drawn(request));
  const events = await collect({ prompt: "a dog", imageCount: 2 });
  assert.equal(events[0].type, "queued");
  assert.deepEqual(events.filter(({ type }) => type === "finished").length, 2);
  for (const imageIndex of [0, 1]) assert.deepEqual(tokensOf(events, imageIndex), fake.tokensOf(imageIndex));
});

test("a call lost in mid-image goes on from its tokens, with the seed that drew them", async () => {
  const [first, second] = [fake.tokensOf(0), fake.tokensOf(1)];
  const asked = answerBy(
    async function* () {
      yield fake.started(99n);
      yield tokenChunk(0, 0, first);
      yield tokenChunk(1, 0, second.slice(0, 5));
      throw notReady("the service is stopping");
    },
    async function* () {
      yield fake.started(99n);
      yield tokenChunk(0, 15, first.slice(15));
      yield tokenChunk(1, 5, second.slice(5));
    },
  );
  const events = await collect({ prompt: "a dog", imageCount: 2 });
  assert.deepEqual([tokensOf(events, 0), tokensOf(events, 1)], [first, second]);
  assert.deepEqual(events.filter(({ type }) => type === "started").length, 1);
  assert.deepEqual(events.filter(({ type }) => type === "finished").length, 2);
  assert.deepEqual([asked[0]!.seed, asked[1]!.seed], [undefined, 99n]);
  assert.deepEqual(asked[1]!.prefixes.map(({ tokens }) => tokens), [first.slice(0, 15), second.slice(0, 5)]);
});

test("a refused call is made again; a wrong one, or one too often lost, is not", async () => {
  const asked = answerBy(() => { throw overloaded("the queue is full", 5); }, (request) => fake.drawn(request));
  assert.deepEqual(tokensOf(await collect({ prompt: "a dog" }), 0), fake.tokensOf(0));
  assert.equal(asked.length, 2);
  const refused = answerBy(() => { throw overloaded("the queue is full", 1); });
  await assert.rejects(collect({ prompt: "a dog" }, { maxRetries: 2 }), { kind: "overloaded" });
  assert.equal(refused.length, 3);
});

test("one deadline holds for all tries, and what is told no delay is not asked for ever", async () => {
  const begun: Script = async function* () {
    yield fake.started(5n);
    yield tokenChunk(0, 0, [1]);
    throw notReady("lost");
  };
  const asked = answerBy(begun, () => { throw new AppError("overloaded", "somebody has had enough"); });
  await assert.rejects(collect({ prompt: "a dog" }, { maxRetries: 2 }), { kind: "overloaded" });
  assert.equal(asked.length, 3);
  const full = answerBy(begun, () => { throw overloaded("the queue is full", 20); });
  await assert.rejects(collect({ prompt: "a dog" }, { timeoutMs: 300 }), { kind: "deadline-exceeded" });
  assert.ok(full.length > 2);
});

test("an answer larger than a message may be is an error of ours, and not asked for again", async () => {
  const asked = answerBy(async function* () {
    yield fake.started(5n);
    yield tokenChunk(0, 0, Array.from({ length: 3_000_000 }, () => 60_000));
  });
  await assert.rejects(collect({ prompt: "a dog" }), { kind: "internal", message: /larger than max/ });
  assert.equal(asked.length, 1);
});

test("another model cannot go on with an image", async () => {
  answerBy(
    async function* () {
      yield fake.started(1n);
      yield tokenChunk(0, 0, [1, 2]);
      throw notReady("lost");
    },
    async function* () {
      yield fake.started(1n, "f".repeat(64));
    },
  );
  await assert.rejects(collect({ prompt: "a dog" }), { kind: "mismatch", message: /another model has answered/ });
});

test("a consumer that leaves stops the generator", async () => {
  const told = fake.hangAfter(fake.started(), tokenChunk(0, 0, [1]));
  for await (const event of tokenStream(connection.client, { prompt: "a dog" })) if (event.type === "tokens") break;
  await told;
});

test("a begun image waits for a place in a full queue, however often it is told to", async () => {
  const asked = answerBy(
    async function* () {
      yield fake.started(5n);
      yield tokenChunk(0, 0, fake.tokensOf(0).slice(0, 4));
      throw notReady("lost");
    },
    ...Array.from({ length: 3 }, () => () => { throw overloaded("the queue is full", 1); }),
    (request) => fake.drawn(request),
  );
  assert.deepEqual(tokensOf(await collect({ prompt: "a dog" }, { maxRetries: 1 }), 0), fake.tokensOf(0));
  assert.equal(asked.length, 5);
});
