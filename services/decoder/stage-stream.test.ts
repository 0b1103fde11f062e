import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import type { StageBundle } from "#libs/bundle/bundle.js";
import { type AppError, overloaded } from "#libs/errors/errors.js";
import { equalStages } from "#libs/flow/schedule.js";
import { GenerateImageRequestSchema, GenerateImageResponseSchema, ImageFormat, type GenerateImageResponse } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GenerateStagesResponseSchema, type GenerateStagesResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { bytesOfFloats } from "#libs/tensor/float-bytes.js";
import type { FlowQuery } from "./flow-head.js";
import { StageStream, type StageDecoderParts } from "./stage-stream.js";
import { validStageImageRequest } from "./stage-validate.js";

type Event = NonNullable<MessageInitShape<typeof GenerateStagesResponseSchema>["event"]>;
type Answer = GenerateImageResponse["event"];
type Latents = AsyncIterator<{ readonly message?: { readonly case?: string; readonly value?: unknown } }>;

const DIGEST = "d".repeat(64);
const stages = equalStages(2).map((flow, index) => ({ height: index + 1, width: index + 1, ...flow, steps: 1, guidanceShare: index }));
const manifest = {
  name: "fake", family: "ecar", image: { height: 8, width: 8, gridHeight: 2, gridWidth: 2 }, stages, transformer: { tokenMapChannels: 1 },
  latent: { channels: 1, mean: [0], scale: [1] },
};
const bundle = { digest: DIGEST, manifest } as unknown as StageBundle;

const started: Event = { case: "started", value: { model: { digest: DIGEST }, imageTokenCount: 5, settings: { seed: 7n, guidanceScale: 2 } } };
const floats = (count: number): Uint8Array => bytesOfFloats(new Float32Array(count).fill(0.5));
const map = (stage: number, change: object = {}): Event => ({ case: "tokenMap", value: {
  stage, height: stage + 1, width: stage + 1, channels: 1, values: floats((stage + 1) ** 2),
  unconditionalValues: stage === 0 ? new Uint8Array() : floats(4), ...change,
} });
const finished: Event = { case: "imageFinished", value: { tokenCount: 5, timings: { decodeMs: 5 } } };

/** A generator, a flow head and a detokenizer that do as told, and what they have left open. */
class Neighbours {
  readonly queries: FlowQuery[] = [];
  readonly sent: unknown[] = [];
  openStreams = 0;
  readonly #script: (latents: Latents, signal: AbortSignal) => AsyncGenerator<Event>;

  constructor(script: (latents: Latents, signal: AbortSignal) => AsyncGenerator<Event>) {
    this.#script = script;
  }

  async *generateStages(requests: AsyncIterable<never>, { signal }: { readonly signal: AbortSignal }): AsyncGenerator<GenerateStagesResponse> {
    this.openStreams++;
    const iterator = requests[Symbol.asyncIterator]() as Latents;
    const latents: Latents = { next: async () => {
      const result = await iterator.next();
      if (!result.done) this.sent.push(result.value.message);
      return result;
    } };
    try {
      await latents.next();
      for await (const event of this.#script(latents, signal)) yield create(GenerateStagesResponseSchema, { event });
    } finally {
      this.openStreams--;
    }
  }

  async velocity(query: FlowQuery): Promise<FlowQuery["latent"]> {
    this.queries.push(query);
    return query.latent;
  }

  async detokenize() {
    return { height: 8, width: 8, data: new Uint8Array(8 * 8 * 3) };
  }
}

async function collect(neighbours: Neighbours, previewIntervalRows = 0, signal = new AbortController().signal): Promise<Answer[]> {
  const request = validStageImageRequest(create(GenerateImageRequestSchema, {
    generation: { prompt: "a" }, previewIntervalRows, encoding: { format: ImageFormat.RAW },
  }), manifest as never);
  const parts = { bundle, flowHead: neighbours, detokenizer: neighbours, generator: neighbours } as unknown as StageDecoderParts;
  const call = { signal, deadline: Infinity, parent: ROOT_CONTEXT, arrivedAt: performance.now() };
  const answers: Answer[] = [];
  for await (const response of new StageStream(parts, request, call).responses()) {
    answers.push(create(GenerateImageResponseSchema, response).event);
  }
  return answers;
}

const whole = async function* (latents: Latents): AsyncGenerator<Event> {
  yield started;
  yield map(0);
  await latents.next();
  yield map(1);
  yield finished;
};

test("a latent goes up for every map but the last, the image comes after its previews", async () => {
  const neighbours = new Neighbours(whole);
  const answers = await collect(neighbours, 1);
  assert.deepEqual(answers.filter((answer) => answer.case !== "imageChunk").map((answer) => answer.case), [
    "started", "progress", "progress", "imageFinished",
  ]);
  const pictures = answers.flatMap((answer) => (answer.case === "imageChunk" ? [[answer.value.preview, answer.value.rowsDone]] : []));
  assert.deepEqual(pictures, [[true, 1], [false, 2]]);
  assert.equal(answers.at(-1)?.case, "imageFinished");
  assert.deepEqual(neighbours.sent.map((message) => (message as { case: string }).case), ["generation", "latent"]);
  assert.equal(neighbours.openStreams, 0);
});

test("guidance runs both branches where a stage has a share of it, the conditional one alone elsewhere", async () => {
  const neighbours = new Neighbours(whole);
  await collect(neighbours);
  // One step of two looks at each stage.
  assert.deepEqual([0, 1].map((stage) => neighbours.queries.filter((query) => query.stage === stage).length), [2, 4]);
});

test("an image that fails while a preview of it is being written fails its call, and nothing else", async () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown) => void unhandled.push(reason);
  process.on("unhandledRejection", note);
  const abort = new AbortController();
  class Slow extends Neighbours {
    #calls = 0;
    // A large preview takes a while to be written; the image waits for its turn until the caller leaves.
    override async detokenize() {
      if (this.#calls++ === 0) return { height: 2048, width: 2048, data: new Uint8Array(2048 * 2048 * 3) };
      const left = once(abort.signal, "abort");
      setImmediate(() => abort.abort());
      await left;
      throw abort.signal.reason;
    }
  }
  await assert.rejects(collect(new Slow(whole), 1, abort.signal), (error) => error === abort.signal.reason || (error as AppError).kind === "cancelled");
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", note);
  assert.deepEqual(unhandled, []);
});

const BROKEN: readonly (readonly [name: string, events: readonly Event[]])[] = [
  ["a map before the start", [map(0)]],
  ["a stage too early", [started, map(1)]],
  ["a stage twice", [started, map(0), map(0)]],
  ["a map of an image that was not asked for", [started, map(0, { imageIndex: 1 })]],
  ["a map of another size", [started, map(0, { height: 2 })]],
  ["a map without its numbers", [started, map(0, { values: floats(3) })]],
  ["bytes that are no numbers", [started, map(0, { values: new Uint8Array(3) })]],
  ["a branch that is not wanted", [started, map(0, { unconditionalValues: floats(1) })]],
  ["an end before the last map", [started, map(0), finished]],
  ["another number of tokens", [{ ...started, value: { ...started.value, imageTokenCount: 4 } } as Event]],
];

for (const [name, events] of BROKEN) {
  test(`a generator that breaks its promises is our own error: ${name}`, async () => {
    const neighbours = new Neighbours(async function* () { yield* events; });
    await assert.rejects(collect(neighbours), { kind: "internal" });
    assert.equal(neighbours.openStreams, 0);
  });
}

function refuse(): Iterable<Event> {
  throw overloaded("full", 5);
}

test("a generator with another bundle, that refuses, or that ends early, is told as it is", async () => {
  const another: Event = { case: "started", value: { model: { digest: "e".repeat(64) }, imageTokenCount: 5 } };
  await assert.rejects(collect(new Neighbours(async function* () { yield another; })), { kind: "mismatch" });
  await assert.rejects(collect(new Neighbours(async function* () { yield* refuse(); })), { kind: "overloaded", retryDelayMs: 5 });
  await assert.rejects(collect(new Neighbours(async function* () { yield started; })), { kind: "aborted", message: /before image 0 was complete/ });
});

test("a caller that leaves ends the stream while it waits for a map", async () => {
  const abort = new AbortController();
  const neighbours = new Neighbours(async function* (_, signal) {
    yield started;
    const aborts = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    abort.abort();
    await aborts;
  });
  await assert.rejects(collect(neighbours, 0, abort.signal), { kind: "cancelled" });
  assert.equal(neighbours.openStreams, 0);
});
