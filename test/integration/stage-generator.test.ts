import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { openBundle, type StageBundle } from "#libs/bundle/bundle.js";
import type { AppError, ErrorKind } from "#libs/errors/errors.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { CallLimits, Definition } from "#libs/rpc/definition.js";
import {
  GeneratorService, type GenerateStagesRequestSchema, type GenerateStagesResponse, type StageLatent as StageLatentMessage,
  type StageLatentSchema, type TokenMap,
} from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { ModelFamily, Priority, type Generation as GenerationMessage, type GenerationSchema } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import type { RunningService } from "#libs/rpc/service.js";
import { bytesOfFloats } from "#libs/tensor/float-bytes.js";
import { readGeneratorConfig } from "#services/generator/config.js";
import { startGenerator } from "#services/generator/start.js";
import { startTokenizer } from "#services/tokenizer/start.js";
import { tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";

type Generation = Exclude<MessageInitShape<typeof GenerationSchema>, GenerationMessage>;
type Request = MessageInitShape<typeof GenerateStagesRequestSchema>;
type StageLatent = Exclude<MessageInitShape<typeof StageLatentSchema>, StageLatentMessage>;
type Event = GenerateStagesResponse["event"];

const GENERATION: Generation = { prompt: "two red apples", seed: 5n };

let bundle: StageBundle;
let tokenizer: RunningService;
let generator: RunningService;
let connection: Connection<Definition<(typeof GeneratorService)["method"]>>;

before(async () => {
  const folder = await tinyStageBundle();
  bundle = (await openBundle(folder)) as StageBundle;
  const address = "127.0.0.1:0";
  tokenizer = await startTokenizer({ address, bundleFolder: folder });
  const config = readGeneratorConfig({ TESSERA_BUNDLE: folder, TESSERA_TOKENIZER_ADDRESS: tokenizer.address });
  generator = await startGenerator({ ...config, address, maxRunning: 2, maxQueueLength: 1 });
  connection = connect(GeneratorService, generator.address);
});

after(async () => {
  connection.close();
  await generator.stop(0);
  await tokenizer.stop(0);
});

/** A GenerateStages call whose requests a test sends one by one. */
class Call {
  readonly #requests: Request[] = [];
  readonly #responses: AsyncIterator<GenerateStagesResponse>;
  #isEnded = false;
  #wake: () => void = () => {};

  constructor(first: Request, options: CallLimits & { readonly signal?: AbortSignal } = {}) {
    this.#requests.push(first);
    this.#responses = connection.client.generateStages(this.#send(), options)[Symbol.asyncIterator]();
  }

  send(latent: StageLatent): void {
    this.sendAny({ message: { case: "latent", value: latent } });
  }

  sendAny(request: Request): void {
    this.#requests.push(request);
    this.#wake();
  }

  /** There are no more requests. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  async next(): Promise<Event | undefined> {
    const { done, value } = await this.#responses.next();
    return done ? undefined : (value as GenerateStagesResponse).event;
  }

  /** The next token map, whatever comes before it. */
  async map(): Promise<TokenMap> {
    for (let event = await this.next(); event !== undefined; event = await this.next()) if (event.case === "tokenMap") return event.value;
    return assert.fail("there is no map to come");
  }

  async return(): Promise<void> {
    await this.#responses.return?.();
  }

  async *#send(): AsyncGenerator<Request> {
    for (;;) {
      while (this.#requests.length > 0) yield this.#requests.shift()!;
      if (this.#isEnded) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

const begin = (generation: Generation = {}, options: CallLimits & { readonly signal?: AbortSignal } = {}): Call =>
  new Call({ message: { case: "generation", value: { ...GENERATION, ...generation } } }, options);

/** A latent as the flow would send it. */
function latentFor({ imageIndex, stage, height, width }: TokenMap, value = 0.5): StageLatent {
  const { channels } = bundle.manifest.latent;
  return { imageIndex, stage, height, width, channels, values: bytesOfFloats(new Float32Array(channels * height * width).fill(value)) };
}

/** Go through a call to its end, answering every map. */
async function finish(call: Call, value = 0.5): Promise<Event[]> {
  const events: Event[] = [];
  for (let event = await call.next(); event !== undefined; event = await call.next()) {
    events.push(event);
    if (event.case === "tokenMap" && event.value.stage < 2) call.send(latentFor(event.value, value));
  }
  return events;
}

const mapsOf = (events: readonly Event[], imageIndex = 0): TokenMap[] =>
  events.flatMap((event) => (event.case === "tokenMap" && event.value.imageIndex === imageIndex ? [event.value] : []));

async function rejects(work: Promise<unknown>, kind: ErrorKind, fields: readonly string[] = []): Promise<void> {
  await assert.rejects(work, (error: AppError) => {
    assert.equal(error.kind, kind, error.message);
    assert.deepEqual(error.violations.map(({ field }) => field), fields, error.message);
    return true;
  });
}

/** Wait until nothing is at work: a call given up just before may still hold its slot for a moment. */
async function untilIdle(): Promise<void> {
  for (;;) {
    const { running, queueLength } = await connection.client.getGeneratorInfo({});
    if (running + queueLength === 0) return;
  }
}

test("an image is its maps, from coarse to fine, with both branches where guidance runs", async () => {
  const events = await finish(begin({ imageCount: 2 }));
  assert.equal(events[0]?.case, "started");
  const started = events[0]!;
  assert.ok(started.case === "started");
  assert.deepEqual([started.value.imageTokenCount, started.value.settings!.seed, started.value.settings!.guidanceScale], [21, 5n, 3]);
  assert.equal(started.value.model!.family, ModelFamily.ECAR);
  const maps = mapsOf(events);
  assert.deepEqual(maps.map(({ stage, height, width, channels }) => [stage, height, width, channels]), [[0, 1, 1, 12], [1, 2, 2, 12], [2, 4, 4, 12]]);
  assert.deepEqual(maps.map(({ values }) => values.length), [48, 192, 768]);
  assert.deepEqual(maps.map(({ unconditionalValues }) => unconditionalValues.length), [0, 192, 768]);
  const finished = events.filter((event) => event.case === "imageFinished");
  assert.equal(finished.length, 2);
  assert.ok(finished[0].case === "imageFinished" && finished[0].value.timings!.decodeSteps === 2);
  const plain = mapsOf(await finish(begin({ guidanceScale: 1 })));
  assert.ok(plain.every(({ unconditionalValues }) => unconditionalValues.length === 0));
  assert.deepEqual(plain[2].values, maps[2].values);
});

test("a map depends on the prompt and on every latent before it, and on nothing else", async () => {
  const values = async (generation: Generation, latent: number): Promise<Uint8Array[]> =>
    mapsOf(await finish(begin(generation), latent)).map(({ values }) => values);
  const first = await values({}, 0.5);
  assert.deepEqual(await values({ seed: 6n }, 0.5), first);
  const others = await values({}, 0.6);
  assert.deepEqual(others[0], first[0]);
  assert.notDeepEqual(others[1], first[1]);
  assert.notDeepEqual((await values({ prompt: "a star" }, 0.5))[0], first[0]);
});

test("several requests at different stages give what each gives alone", async () => {
  const prompts = ["two red apples", "a star"];
  const alone = [];
  for (const prompt of prompts) alone.push(mapsOf(await finish(begin({ prompt }))));
  const early = begin({ prompt: prompts[0] });
  const head = await early.map();
  const late = begin({ prompt: prompts[1] });
  early.send(latentFor(head));
  const [rest, whole] = await Promise.all([finish(early), finish(late)]);
  assert.deepEqual([head, ...mapsOf(rest)], alone[0]);
  assert.deepEqual(mapsOf(whole), alone[1]);
});

test("every wrong latent is refused by name", async () => {
  const wrong: readonly (readonly [change: Partial<StageLatent>, fields: readonly string[]])[] = [
    [{ imageIndex: 1 }, ["latent.image_index"]],
    [{ stage: 1 }, ["latent.stage"]],
    [{ height: 2, width: 0, channels: 3 }, ["latent.height", "latent.width", "latent.channels"]],
    [{ values: new Uint8Array(15) }, ["latent.values"]],
    [{ values: bytesOfFloats(Float32Array.of(1, 2, Number.NaN, 3)) }, ["latent.values[2]"]],
    [{ values: bytesOfFloats(Float32Array.of(Infinity, 2, 3, 3)) }, ["latent.values[0]"]],
  ];
  for (const [change, fields] of wrong) {
    const call = begin();
    const map = await call.map();
    call.send({ ...latentFor(map), ...change });
    await rejects(finish(call), "invalid-request", fields);
  }
  const twice = begin({ imageCount: 1 });
  const map = await twice.map();
  twice.send(latentFor(map));
  twice.send(latentFor(map));
  await rejects(finish(twice), "invalid-request", ["latent.stage"]);
  await untilIdle();
});

test("the requests are one generation, then latents, as long as any is awaited", async () => {
  const latent: Request = { message: { case: "latent", value: { imageIndex: 0 } } };
  await rejects(finish(new Call(latent)), "invalid-request", ["generation"]);
  const silent = begin();
  await silent.map();
  silent.end();
  await rejects(finish(silent), "invalid-request", ["latent"]);
  const twice = begin();
  await twice.map();
  twice.sendAny({ message: { case: "generation", value: GENERATION } });
  await rejects(finish(twice), "invalid-request", ["latent"]);
  await untilIdle();
});

test("what has no meaning for continuous tokens is refused by name, with all else that is wrong", async () => {
  await rejects(finish(begin({
    prompt: "", guidanceScale: 0.5, imageCount: 17, sampling: { temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 }, prefixes: [{ imageIndex: 0, tokens: [1] }],
    speculation: { draftWindow: 2 },
  })), "invalid-request", [
    "generation.prompt", "generation.guidance_scale", "generation.image_count", "generation.sampling.temperature",
    "generation.sampling.top_k", "generation.sampling.top_p", "generation.sampling.repetition_penalty", "generation.prefixes", "generation.speculation.draft_window",
  ]);
  await rejects(finish(begin({ guidanceScale: 1, negativePrompt: "a star" })), "invalid-request", ["generation.guidance_scale"]);
  assert.equal((await finish(begin({ sampling: {}, speculation: {} }))).at(-1)?.case, "imageFinished");
});

test("Generate says which call to use", async () => {
  await assert.rejects((async () => {
    for await (const _ of connection.client.generate({ generation: GENERATION }));
  })(), { kind: "unsupported", message: "tiny-ecar has continuous tokens: use GenerateStages" });
});

test("a caller that leaves frees the slot at every stage", async () => {
  for (const stages of [0, 1, 2]) {
    const abort = new AbortController();
    const call = begin({ imageCount: 2 }, { signal: abort.signal });
    for (let stage = 0; stage <= stages; stage++) {
      const [first, second] = [await call.map(), await call.map()];
      if (stage < stages) for (const map of [first, second]) call.send(latentFor(map));
    }
    abort.abort();
    await untilIdle();
  }
  const unread = begin();
  await unread.map();
  await unread.return();
  await untilIdle();
});

test("a deadline ends a call that waits for its latents, and frees the slot", async () => {
  const call = begin({}, { timeoutMs: 300 });
  await call.map();
  await rejects(finish({ next: () => call.next(), send() {} } as unknown as Call), "deadline-exceeded");
  await untilIdle();
});

test("beyond the slots requests wait in order, beyond the queue they are refused with a delay", async () => {
  const held = begin({ imageCount: 2 });
  await held.map();
  const waiting = begin();
  const place = await waiting.next();
  assert.ok(place?.case === "queued" && place.value.position === 1);
  await assert.rejects(finish(begin()), (error: AppError) => error.kind === "overloaded" && error.retryDelayMs! > 0);
  const { maxRunning, running, queueLength, defaults } = await connection.client.getGeneratorInfo({});
  assert.deepEqual([maxRunning, running, queueLength, defaults!.guidanceScale], [2, 2, 1, 3]);
  await held.return();
  assert.equal((await finish(waiting)).at(-1)?.case, "imageFinished");
});

test("an urgent call takes a slot of a lesser one between two stages, whose maps stay the very same", async () => {
  const undisturbed = await finish(begin({ imageCount: 2 }));
  const lesser = begin({ imageCount: 2, priority: Priority.LOW });
  const heads = [await lesser.map(), await lesser.map()];
  const urgent = await finish(begin({ prompt: "a star", priority: Priority.HIGH }));
  assert.equal(urgent.at(-1)?.case, "imageFinished", "it did not wait for the latents of the other");
  for (const map of heads) lesser.send(latentFor(map));
  const rest = await finish(lesser);
  for (const index of [0, 1]) {
    const head = heads.filter(({ imageIndex }) => imageIndex === index);
    assert.deepEqual([...head, ...mapsOf(rest, index)].map(({ values }) => values), mapsOf(undisturbed, index).map(({ values }) => values));
  }
  const preemptions = rest.flatMap((event) => (event.case === "imageFinished" ? [event.value.timings!.preemptions] : []));
  assert.deepEqual(preemptions.sort(), [0, 1]);
});
