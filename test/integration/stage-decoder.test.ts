import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import sharp from "sharp";
import { openBundle, type StageBundle } from "#libs/bundle/bundle.js";
import type { AppError } from "#libs/errors/errors.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { CallLimits, Definition } from "#libs/rpc/definition.js";
import {
  DecoderService, ImageFormat, type GenerateImageRequestSchema, type GenerateImageResponse, type ImageChunk, type ImageContentSchema,
} from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { RunningService } from "#libs/rpc/service.js";
import { bytesOfFloats } from "#libs/tensor/float-bytes.js";
import { toBytes } from "#services/decoder/detokenizer.js";
import { startDecoder } from "#services/decoder/start.js";
import { readGeneratorConfig } from "#services/generator/config.js";
import { startGenerator } from "#services/generator/start.js";
import { startTokenizer } from "#services/tokenizer/start.js";
import { readStageGoldens, tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";

type Event = GenerateImageResponse["event"];
type GenerateImageInit = Exclude<MessageInitShape<typeof GenerateImageRequestSchema>, { readonly $typeName: string }>;

const PROMPT = "two red apples";

let bundle: StageBundle;
let services: readonly RunningService[];
let connection: Connection<Definition<(typeof DecoderService)["method"]>>;
let generator: Connection<Definition<(typeof GeneratorService)["method"]>>;

before(async () => {
  const bundleFolder = await tinyStageBundle();
  bundle = (await openBundle(bundleFolder)) as StageBundle;
  const address = "127.0.0.1:0";
  const tokenizer = await startTokenizer({ address, bundleFolder });
  const config = readGeneratorConfig({ TESSERA_BUNDLE: bundleFolder, TESSERA_TOKENIZER_ADDRESS: tokenizer.address });
  const generation = await startGenerator({ ...config, address });
  const decoder = await startDecoder({ address, bundleFolder, generatorAddress: generation.address, threads: 1, provider: "cpu" });
  services = [decoder, generation, tokenizer];
  connection = connect(DecoderService, decoder.address);
  generator = connect(GeneratorService, generation.address);
});

after(async () => {
  connection.close();
  generator.close();
  for (const service of services) await service.stop(0);
});

function generate(init: GenerateImageInit = {}, options: CallLimits & { readonly signal?: AbortSignal } = {}): AsyncIterable<GenerateImageResponse> {
  return connection.client.generateImage({ generation: { prompt: PROMPT, seed: 7n }, ...init }, options);
}

async function collect(responses: AsyncIterable<GenerateImageResponse>): Promise<Event[]> {
  const events: Event[] = [];
  for await (const { event } of responses) events.push(event);
  return events;
}

const chunksOf = (events: readonly Event[], preview: boolean): ImageChunk[] =>
  events.flatMap((event) => (event.case === "imageChunk" && event.value.preview === preview ? [event.value] : []));

/** The bytes of every image, by its index. */
async function imagesOf(init: GenerateImageInit): Promise<Uint8Array[]> {
  const images: Uint8Array[] = [];
  for (const { imageIndex, data } of chunksOf(await collect(generate(init)), false)) images[imageIndex] = data;
  return images;
}

const RAW = { format: ImageFormat.RAW };
const seeded = (seed: bigint, imageCount = 1) => ({ generation: { prompt: PROMPT, seed, imageCount }, encoding: RAW });

async function untilIdle(): Promise<void> {
  while ((await generator.client.getGeneratorInfo({})).running > 0);
}

test("a prompt becomes pictures: progress by stages, previews from coarse to fine, files, digests and timings", async () => {
  const events = await collect(generate({ previewIntervalRows: 1 }));
  assert.equal(events[0].case, "started");
  const progress = events.flatMap((event) => (event.case === "progress" ? [[event.value.tokensDone, event.value.tokensTotal]] : []));
  assert.deepEqual(progress, [[1, 21], [5, 21], [21, 21]]);
  const pictures = events.flatMap((event) => (event.case === "imageChunk" ? [event.value] : []));
  assert.deepEqual(pictures.map(({ preview, rowsDone, format }) => [preview, rowsDone, format]), [
    [true, 1, ImageFormat.JPEG], [true, 2, ImageFormat.JPEG], [false, 4, ImageFormat.PNG],
  ]);
  for (const { data } of pictures) {
    const { height, width } = await sharp(data).metadata();
    assert.deepEqual([height, width], [bundle.manifest.image.height, bundle.manifest.image.width]);
  }
  const end = events.at(-1)!;
  assert.ok(end.case === "imageFinished");
  assert.match(end.value.tokenDigest, /^[0-9a-f]{64}$/);
  assert.equal(end.value.timings!.generation!.decodeSteps, 2);
  assert.ok(end.value.timings!.detokenizeMs > 0 && end.value.timings!.previewMs > 0);
  const { comments = [] } = await sharp(pictures[2].data).metadata();
  const texts = Object.fromEntries(comments.map(({ keyword, text }) => [keyword, text]));
  assert.equal(texts["Seed"], "7");
  assert.deepEqual(JSON.parse(texts["Settings"]), { guidance_scale: 3, image_index: 0 });
});

test("previews come only where enough rows are finished", async () => {
  const rows = async (previewIntervalRows: number) => chunksOf(await collect(generate({ previewIntervalRows })), true).map(({ rowsDone }) => rowsDone);
  assert.deepEqual(await rows(2), [2]);
  assert.deepEqual(await rows(4), []);
  assert.deepEqual(await rows(0), []);
});

test("a seed fixes the image; other seeds, images, prompts and scales give others", async () => {
  const [first, second] = await imagesOf(seeded(7n, 2));
  assert.deepEqual(await imagesOf(seeded(7n)), [first]);
  assert.notDeepEqual(first, second);
  assert.notDeepEqual(await imagesOf(seeded(8n)), [first]);
  assert.notDeepEqual(await imagesOf({ generation: { prompt: "a star", seed: 7n }, encoding: RAW }), [first]);
  assert.notDeepEqual(await imagesOf({ generation: { prompt: PROMPT, seed: 7n, guidanceScale: 1 }, encoding: RAW }), [first]);
  assert.notDeepEqual(await imagesOf({ generation: { prompt: PROMPT, seed: 7n, negativePrompt: "a star" }, encoding: RAW }), [first]);
});

test("images of many requests at many stages are what each is alone", async () => {
  const inits = [1n, 2n, 3n, 4n].map((seed) => seeded(seed, 2));
  const alone = [];
  for (const init of inits) alone.push(await imagesOf(init));
  const begun = generate(inits[0])[Symbol.asyncIterator]();
  // One request is at its second stage when the others come.
  for (let maps = 0; maps < 3;) if ((await begun.next()).value?.event.case === "progress") maps++;
  assert.deepEqual(await Promise.all(inits.map((init) => imagesOf(init))), alone);
  await begun.return?.();
});

/** A latent of the goldens as the call takes it. */
async function goldenLatent(change: object = {}): Promise<MessageInitShape<typeof ImageContentSchema>> {
  const values = bytesOfFloats(await (await readStageGoldens()).floats("guided/end.2", [1, 4, 4, 4]));
  return { content: { case: "latent", value: { height: 4, width: 4, channels: 4, values, ...change } } };
}

test("Decode draws a latent as PyTorch does", async () => {
  const expected = toBytes(await (await readStageGoldens()).floats("guided/pixels", [1, 3, 32, 32]));
  const chunks = [];
  for await (const { imageChunk } of connection.client.decode({ images: [await goldenLatent(), await goldenLatent()], encoding: RAW })) chunks.push(imageChunk!);
  assert.equal(chunks.length, 2);
  for (const { data } of chunks) assert.ok(data.every((byte, i) => Math.abs(byte - expected[i]) <= 1));
});

async function failureOf(work: Promise<unknown>): Promise<AppError> {
  return work.then(() => assert.fail("it succeeded"), (error: AppError) => error);
}

test("every wrong latent is refused by name, and tokens are another model's", async () => {
  const nan = new Float32Array(64);
  nan[9] = Number.NaN;
  const wrong: readonly (readonly [change: object, fields: readonly string[]])[] = [
    [{ height: 2, width: 3, channels: 5 }, ["images[0].latent.height", "images[0].latent.width", "images[0].latent.channels"]],
    [{ values: new Uint8Array(255) }, ["images[0].latent.values"]],
    [{ values: bytesOfFloats(nan) }, ["images[0].latent.values[9]"]],
  ];
  const decode = async (images: MessageInitShape<typeof ImageContentSchema>[]) => {
    for await (const _ of connection.client.decode({ images }));
  };
  for (const [change, fields] of wrong) {
    const { kind, violations } = await failureOf(decode([await goldenLatent(change)]));
    assert.equal(kind, "invalid-request");
    assert.deepEqual(violations.map(({ field }) => field), fields);
  }
  assert.equal((await failureOf(decode([]))).kind, "invalid-request");
  assert.equal((await failureOf(decode([{}]))).kind, "invalid-request");
  assert.equal((await failureOf(decode([{ content: { case: "tokens", value: { tokens: [1] } } }]))).kind, "unsupported");
});

test("what continuous tokens lack is refused, and so is what is out of range, at whichever hop", async () => {
  assert.equal((await failureOf(collect(generate({ includeTokens: true })))).kind, "unsupported");
  const { kind, violations } = await failureOf(collect(generate({ previewIntervalRows: 5 })));
  assert.deepEqual([kind, violations[0].field], ["invalid-request", "preview_interval_rows"]);
  const far = await failureOf(collect(generate({ generation: { prompt: PROMPT, sampling: { topK: 3 } } })));
  assert.deepEqual([far.kind, far.violations[0].field], ["invalid-request", "generation.sampling.top_k"]);
});

test("a caller that leaves frees everything, at every stage", async () => {
  for (let stages = 0; stages <= 3; stages++) {
    const abort = new AbortController();
    const responses = generate({}, { signal: abort.signal })[Symbol.asyncIterator]();
    for (let maps = 0; maps < stages;) if ((await responses.next()).value?.event.case === "progress") maps++;
    if (stages === 0) await responses.next();
    abort.abort();
    assert.equal((await failureOf((async () => { while (!(await responses.next()).done); })())).kind, "cancelled");
    await untilIdle();
  }
  for await (const { event } of generate()) if (event.case === "progress") break;
  await untilIdle();
});

test("a deadline that can't hold ends the call with its own code", async () => {
  assert.equal((await failureOf(collect(generate({ generation: { prompt: PROMPT, imageCount: 16 } }, { timeoutMs: 5 })))).kind, "deadline-exceeded");
  await untilIdle();
});
