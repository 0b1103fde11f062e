import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import type { AppError, ErrorKind } from "#libs/errors/errors.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { Definition, ServiceImplementation } from "#libs/rpc/definition.js";
import { GeneratorService, type GenerateResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { type GenerationSchema } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { implement, startServer, type RunningServer } from "#libs/rpc/server.js";
import type { RunningService } from "#libs/rpc/service.js";
import { startGenerator } from "#services/generator/start.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

type Client = Connection<Definition<(typeof GeneratorService)["method"]>>["client"];
type Generation = MessageInitShape<typeof GenerationSchema>;

const MAX_QUEUE_LENGTH = 1;
const GENERATION: Generation = { prompt: "a dog", seed: 5n };

let bundle: TokenBundle;
let tokenizer: RunningServer;
let generator: RunningService;
let connection: { readonly client: Client; close(): void };
/** What the fake tokenizer says its bundle is. */
let digest: string;

const fakeTokenizer: ServiceImplementation<typeof TokenizerService> = {
  async encode({ negativePrompt }) {
    const negativePromptTokens = negativePrompt === undefined ? [1, 2] : [1, 3, 2];
    return { promptTokens: [1, 5, 6, 7, 2], negativePromptTokens, modelDigest: digest };
  },
  async decodeText() {
    return { text: "" };
  },
  async getTokenizerInfo() {
    return {};
  },
};

before(async () => {
  bundle = await openTokenBundle(await tinyBundle());
  digest = bundle.digest;
  tokenizer = await startServer({
    address: "127.0.0.1:0", services: [implement(TokenizerService, fakeTokenizer)],
  });
  tokenizer.setServing(true);
  generator = await startGenerator({
    address: "127.0.0.1:0", bundleFolder: bundle.folder, tokenizerAddress: tokenizer.address, threads: 1,
    provider: "cpu", maxQueueLength: MAX_QUEUE_LENGTH, maxRunning: 1, kvCacheMib: 64, stallMs: 30_000,
  });
  connection = connect(GeneratorService, generator.address);
});

after(async () => {
  connection.close();
  await generator.stop();
  await tokenizer.stop();
});

async function collect(generation: Generation, signal?: AbortSignal): Promise<GenerateResponse["event"][]> {
  const events = [];
  for await (const { event } of connection.client.generate({ generation }, signal ? { signal } : {})) events.push(event);
  return events;
}

/** The tokens of every image, checked to come in order and without gaps. */
async function tokensOf(generation: Generation): Promise<number[][]> {
  const images: number[][] = [];
  for (const event of await collect(generation)) {
    if (event.case !== "tokenChunk") continue;
    const { imageIndex, offset, tokens } = event.value;
    const image = (images[imageIndex] ??= []);
    assert.equal(offset, image.length);
    image.push(...tokens);
  }
  return images;
}

/** Wait for the turn: a call given up just before may still hold it for a moment. */
async function untilStarted(call: AsyncIterator<GenerateResponse>): Promise<void> {
  let next;
  do next = (await call.next()).value?.event.case;
  while (next === "queued");
  assert.equal(next, "started");
}

async function rejects(work: Promise<unknown>, kind: ErrorKind, fields: readonly string[] = []): Promise<void> {
  await assert.rejects(work, (error: AppError) => {
    assert.equal(error.kind, kind, error.message);
    assert.deepEqual(error.violations.map(({ field }) => field), fields);
    return true;
  });
}

test("a generation starts, streams whole images and says where the time went", async () => {
  const events = await collect({ ...GENERATION, imageCount: 2 });
  const cases = events.map((event) => event.case);
  assert.equal(cases[0], "started");
  assert.equal(cases.filter((name) => name === "imageFinished").length, 2);
  const started = events[0]!;
  assert.ok(started.case === "started");
  const total = bundle.manifest.image.gridHeight * bundle.manifest.image.gridWidth;
  assert.equal(started.value.imageTokenCount, total);
  assert.equal(started.value.settings!.seed, 5n);
  assert.equal(started.value.settings!.guidanceScale, bundle.manifest.defaults.guidanceScale);
  assert.equal(started.value.model!.digest, bundle.digest);
  const finished = events.at(-1)!;
  assert.ok(finished.case === "imageFinished");
  assert.ok(finished.value.timings!.decodeSteps + finished.value.timings!.acceptedTokens >= total - 1);
  assert.ok(finished.value.timings!.decodeMs > 0);
});

test("a seed fixes the tokens; images of one request differ; the negative prompt steers", async () => {
  const images = await tokensOf({ ...GENERATION, imageCount: 2 });
  assert.deepEqual(await tokensOf(GENERATION), [images[0]]);
  assert.notDeepEqual(images[0], images[1]);
  assert.notDeepEqual(await tokensOf({ ...GENERATION, seed: 6n }), [images[0]]);
  assert.notDeepEqual(await tokensOf({ ...GENERATION, negativePrompt: "a cat" }), [images[0]]);
});

test("a seed left out is drawn and reported", async () => {
  const drawn = async () => {
    const [started] = await collect({ prompt: "a dog" });
    assert.ok(started!.case === "started");
    return started!.value.settings!.seed;
  };
  assert.notEqual(await drawn(), await drawn());
});

test("every field out of range is named", async () => {
  await rejects(collect({
    prompt: "", guidanceScale: Number.NaN, sampling: { temperature: -1, topK: 1_000_000, topP: 0 }, imageCount: 17,
  }), "invalid-request", [
    "generation.prompt", "generation.guidance_scale", "generation.sampling.temperature", "generation.sampling.top_k",
    "generation.sampling.top_p", "generation.image_count",
  ]);
});

test("a model with discrete tokens refuses to generate stages", async () => {
  await rejects((async () => {
    for await (const _ of connection.client.generateStages((async function* () {})()));
  })(), "unsupported");
});

test("a tokenizer with another bundle is a mismatch", async () => {
  digest = "0".repeat(64);
  try {
    await rejects(collect(GENERATION), "mismatch");
  } finally {
    digest = bundle.digest;
  }
});

test("beyond the queue a request is refused at once; those waiting hear their place and are served", async () => {
  const first = connection.client.generate({ generation: { ...GENERATION, imageCount: 16 } })[Symbol.asyncIterator]();
  await untilStarted(first);
  const second = connection.client.generate({ generation: GENERATION })[Symbol.asyncIterator]();
  const waiting = (await second.next()).value?.event;
  assert.ok(waiting?.case === "queued");
  assert.equal(waiting.value.position, 1);
  await assert.rejects(collect(GENERATION), (error: AppError) => {
    assert.equal(error.kind, "overloaded");
    assert.ok(error.retryDelayMs! > 0);
    return true;
  });
  assert.equal((await connection.client.getGeneratorInfo({})).queueLength, 1);
  await first.return?.();
  assert.equal((await second.next()).value?.event.case, "started");
  await second.return?.();
});

test("cancelling gives the turn to the next request, whether at work or waiting", async () => {
  for (const startedFirst of [true, false]) {
    const running = connection.client.generate({ generation: { ...GENERATION, imageCount: 16 } })[Symbol.asyncIterator]();
    await untilStarted(running);
    const controller = new AbortController();
    const waiting = collect(GENERATION, controller.signal);
    if (startedFirst) {
      await running.return?.();
      assert.equal((await waiting).at(-1)?.case, "imageFinished");
    } else {
      controller.abort();
      await rejects(waiting, "cancelled");
      while ((await connection.client.getGeneratorInfo({})).queueLength > 0);
      const next = collect(GENERATION);
      await running.return?.();
      assert.equal((await next).at(-1)?.case, "imageFinished");
    }
  }
});

test("a deadline that passes mid-generation ends the call and frees the turn", async () => {
  await rejects((async () => {
    for await (const _ of connection.client.generate({ generation: { ...GENERATION, imageCount: 16 } }, { timeoutMs: 1 }));
  })(), "deadline-exceeded");
  assert.equal((await collect(GENERATION)).at(-1)?.case, "imageFinished");
});

test("a tokenizer that cannot be reached is unavailable", async () => {
  await tokenizer.stop(0);
  await rejects(collect(GENERATION), "not-ready");
});
