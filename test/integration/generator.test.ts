import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { AppError, ErrorKind } from "#libs/errors/errors.js";
import type { GenerateResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { startGeneratorStand, type Generation, type GeneratorStand } from "#test/doubles/generator-stand.js";

const GENERATION: Generation = { prompt: "a dog", seed: 5n };

let stand: GeneratorStand;

before(async () => {
  stand = await startGeneratorStand();
});
after(() => stand.stop());

async function collect(generation: Generation): Promise<GenerateResponse["event"][]> {
  const events = [];
  for await (const { event } of stand.client.generate({ generation })) events.push(event);
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
  const total = stand.bundle.manifest.image.gridHeight * stand.bundle.manifest.image.gridWidth;
  assert.equal(started.value.imageTokenCount, total);
  assert.equal(started.value.settings!.seed, 5n);
  assert.equal(started.value.settings!.guidanceScale, stand.bundle.manifest.defaults.guidanceScale);
  assert.equal(started.value.model!.digest, stand.bundle.digest);
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
    prompt: "", guidanceScale: Number.NaN, sampling: { temperature: -1, topK: 1_000_000, topP: 0, repetitionPenalty: 0 }, imageCount: 17,
  }), "invalid-request", [
    "generation.prompt", "generation.guidance_scale", "generation.sampling.temperature", "generation.sampling.top_k",
    "generation.sampling.top_p", "generation.sampling.repetition_penalty", "generation.image_count",
  ]);
});

test("a negative prompt is refused where nothing would be steered by it", async () => {
  await rejects(collect({ ...GENERATION, guidanceScale: 1, negativePrompt: "a cat" }), "invalid-request", ["generation.guidance_scale"]);
});

test("a model with discrete tokens refuses to generate stages", async () => {
  await rejects((async () => {
    for await (const _ of stand.client.generateStages((async function* () {})()));
  })(), "unsupported");
});

test("a tokenizer with another bundle is a mismatch", async () => {
  stand.setDigest("0".repeat(64));
  try {
    await rejects(collect(GENERATION), "mismatch");
  } finally {
    stand.setDigest(stand.bundle.digest);
  }
});

test("a deadline that is over before the images are there ends the call and frees the turn", async () => {
  await rejects((async () => {
    for await (const _ of stand.client.generate({ generation: { ...GENERATION, imageCount: 16 } }, { timeoutMs: 1 }));
  })(), "deadline-exceeded");
  assert.equal((await collect(GENERATION)).at(-1)?.case, "imageFinished");
});

test("a tokenizer that cannot be reached is unavailable", async () => {
  await stand.tokenizer.stop(0);
  await rejects(collect(GENERATION), "not-ready");
});
