import assert from "node:assert/strict";
import { test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import sharp from "sharp";
import { ImageFormat, DecoderService, type DecodeRequestSchema, type GenerateImageResponse, type ImageChunk } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import { tokenDigest } from "#services/decoder/token-grid.js";
import { startDecoder } from "#services/decoder/start.js";
import { collect, DecoderStand, PROMPT, type GenerateImageInit } from "#test/doubles/decoder-stand.js";
import { tokenChunk } from "#test/doubles/fake-generator.js";

const stand = DecoderStand.forThisFile();

/** The files among some events, put together and checked to come whole and in order. */
function filesOf(chunks: readonly ImageChunk[]): { readonly head: ImageChunk; readonly bytes: Buffer }[] {
  const files: { head: ImageChunk; bytes: Buffer }[] = [];
  for (const part of chunks) {
    if (part.offset === 0) files.push({ head: part, bytes: Buffer.alloc(0) });
    const file = files.at(-1)!;
    assert.equal(part.offset, file.bytes.length);
    assert.equal(part.imageIndex, file.head.imageIndex);
    file.bytes = Buffer.concat([file.bytes, part.data]);
  }
  for (const { head, bytes } of files) assert.equal(bytes.length, head.totalBytes);
  return files;
}

const chunksOf = (events: readonly GenerateImageResponse["event"][]): ImageChunk[] =>
  events.flatMap((event) => (event.case === "imageChunk" ? [event.value] : []));

async function decode(init: MessageInitShape<typeof DecodeRequestSchema>): Promise<ReturnType<typeof filesOf>> {
  const chunks: ImageChunk[] = [];
  for await (const { imageChunk } of stand.connection.client.decode(init)) chunks.push(imageChunk!);
  return filesOf(chunks);
}

const content = (tokens: number[]) => ({ content: { case: "tokens" as const, value: { tokens } } });

test("a prompt becomes pictures: waiting, progress, files, digests and timings", async () => {
  const events = await collect(stand.generate({ generation: { prompt: PROMPT, seed: 7n, imageCount: 2 }, includeTokens: true }));
  assert.deepEqual(events.slice(0, 2).map((event) => event.case), ["queued", "started"]);
  const progress = events.flatMap((event) => (event.case === "progress" ? [event.value] : []));
  assert.deepEqual(progress.filter(({ imageIndex }) => imageIndex === 1).map(({ tokensDone }) => tokensDone), [3, 6, 9, 12, 15, 16]);
  const ends = events.flatMap((event) => (event.case === "imageFinished" ? [event.value] : []));
  const files = filesOf(chunksOf(events));
  const raw = await decode({ images: [content(stand.fake.tokensOf(0)), content(stand.fake.tokensOf(1))], encoding: { format: ImageFormat.RAW } });
  assert.equal(files.length, 2);
  for (const { head, bytes } of files) {
    const end = ends.find(({ imageIndex }) => imageIndex === head.imageIndex)!;
    assert.deepEqual(end.tokens, stand.fake.tokensOf(head.imageIndex));
    assert.equal(end.tokenDigest, tokenDigest(Uint32Array.from(end.tokens)));
    assert.equal(end.timings?.generation?.decodeSteps, 15);
    assert.ok(end.timings.detokenizeMs > 0 && end.timings.totalMs >= end.timings.detokenizeMs);
    assert.deepEqual(await sharp(bytes).removeAlpha().raw().toBuffer(), raw[head.imageIndex].bytes);
  }
});

test("a PNG says how it was made, and shows the prompt only to whoever asked for it", async () => {
  const commentsOf = async (init: GenerateImageInit) => {
    const [{ bytes }] = filesOf(chunksOf(await collect(stand.generate(init))));
    assert.equal(bytes.includes(PROMPT), init.encoding?.includePrompt ?? false);
    const { comments = [] } = await sharp(bytes).metadata();
    return Object.fromEntries(comments.map(({ keyword, text }) => [keyword, text]));
  };
  const plain = await commentsOf({});
  assert.deepEqual(Object.keys(plain), ["Software", "Model", "Seed", "Settings"]);
  assert.equal(plain["Model"], `${stand.bundle.manifest.name} ${stand.bundle.digest}`);
  assert.equal(plain["Seed"], "7");
  assert.deepEqual(JSON.parse(plain["Settings"]), { guidance_scale: 3, temperature: 0.9, top_k: 0, top_p: 1, repetition_penalty: 1.25, image_index: 0 });
  const prefixes = [{ imageIndex: 0, tokens: stand.fake.tokensOf(0).slice(0, 6) }];
  const continued = await commentsOf({ generation: { prompt: PROMPT, seed: 7n, prefixes } });
  assert.equal(JSON.parse(continued["Settings"]).prefix_tokens, 6);
  const told = await commentsOf({ encoding: { includePrompt: true } });
  assert.equal(told["Description"], PROMPT);
});

test("every format is what it says, of the size it says", async () => {
  const { height, width } = stand.bundle.manifest.image;
  const formats = [[ImageFormat.PNG, "png"], [ImageFormat.WEBP, "webp"], [ImageFormat.JPEG, "jpeg"]] as const;
  for (const [format, name] of formats) {
    const [{ head, bytes }] = filesOf(chunksOf(await collect(stand.generate({ encoding: { format } }))));
    const metadata = await sharp(bytes).metadata();
    assert.deepEqual([metadata.format, metadata.height, metadata.width], [name, height, width]);
    assert.deepEqual([head.format, head.height, head.width, head.rowsDone, head.preview], [format, height, width, 4, false]);
  }
  const [{ bytes }] = await decode({ images: [content(stand.fake.tokensOf(0))], encoding: { format: ImageFormat.RAW } });
  assert.equal(bytes.length, height * width * 3);
});

test("previews come every k rows as JPEG, before the image", async () => {
  const seen: ImageChunk[] = [];
  const previews: Record<number, () => void> = {};
  stand.fake.script = async function* () {
    yield stand.fake.started();
    for (let row = 0; row < 4; row++) {
      // Stands for a slow generator: the next row is drawn when this one's preview has been received.
      const received = new Promise<void>((resolve) => (previews[row + 1] = resolve));
      yield tokenChunk(0, row * 4, stand.fake.tokensOf(0).slice(row * 4, row * 4 + 4));
      if (row === 1) await received;
    }
    yield { event: { case: "imageFinished", value: { imageIndex: 0, tokenCount: 16 } } };
  };
  for await (const { event } of stand.generate({ previewIntervalRows: 2 })) {
    if (event.case !== "imageChunk") continue;
    seen.push(event.value);
    if (event.value.preview) previews[event.value.rowsDone]();
  }
  const [preview, final, ...rest] = filesOf(seen);
  assert.deepEqual(rest, []);
  assert.deepEqual([preview.head.preview, preview.head.rowsDone, preview.head.format], [true, 2, ImageFormat.JPEG]);
  assert.equal((await sharp(preview.bytes).metadata()).height, stand.bundle.manifest.image.height);
  assert.equal(final.head.preview, false);
});

test("tokens become pictures in the order of the request, and equal tokens equal bytes", async () => {
  const images = [content(stand.fake.tokensOf(1)), content(stand.fake.tokensOf(0)), content(stand.fake.tokensOf(1))];
  const files = await decode({ images });
  assert.deepEqual(files.map(({ head }) => head.imageIndex), [0, 1, 2]);
  assert.deepEqual(files[0].bytes, files[2].bytes);
  assert.notDeepEqual(files[0].bytes, files[1].bytes);
});

test("what breaks a rule is refused by field, before the generator is asked", async () => {
  stand.fake.script = () => {
    throw new Error("must not be asked");
  };
  const { codebookSize } = stand.bundle.manifest.image;
  const refusals: readonly [work: () => Promise<unknown>, field: string, rule: RegExp][] = [
    [() => collect(stand.connection.client.generateImage({})), "generation", /must be set/],
    [() => collect(stand.generate({ previewIntervalRows: 5 })), "preview_interval_rows", /0 \.\. 4, got 5/],
    [() => collect(stand.generate({ encoding: { quality: 3 } })), "encoding.quality", /got 3/],
    [() => decode({}), "images", /1 \.\. 16 entries, got 0/],
    [() => decode({ images: [content([1, 2])] }), "images[0].tokens", /16 image tokens, got 2/],
    [() => decode({ images: [content(stand.fake.tokensOf(0).fill(codebookSize, 3, 4))] }), "images[0].tokens[3]", /0 \.\. \d+, got \d+/],
  ];
  for (const [work, field, rule] of refusals) {
    await assert.rejects(work, (error: { kind: string; violations: { field: string; description: string }[] }) => {
      assert.equal(error.kind, "invalid-request");
      assert.deepEqual(error.violations.map((violation) => violation.field), [field]);
      assert.match(error.violations[0].description, rule);
      return true;
    });
  }
  const latent = { content: { case: "latent" as const, value: {} } };
  await assert.rejects(decode({ images: [latent] }), { kind: "unsupported" });
});

test("requests share the detokenizer, and health answers while it is busy", async () => {
  const probe = openHealthProbe(stand.decoder.address, DecoderService.typeName);
  try {
    let busy = 8;
    const images = Array.from({ length: 16 }, (_, index) => content(stand.fake.tokensOf(index)));
    const calls = Array.from({ length: busy }, async () => {
      const files = await decode({ images });
      busy--;
      return files;
    });
    assert.equal(await probe.check(), "serving");
    assert.ok(busy > 0, "all decoding was over before health answered");
    const all = await Promise.all(calls);
    for (const files of all) assert.deepEqual(files.map(({ bytes }) => bytes), all[0].map(({ bytes }) => bytes));
  } finally {
    probe.close();
  }
});

test("tells what it has loaded, and refuses a bundle that is none", async () => {
  const info = await stand.connection.client.getDecoderInfo({});
  const { $typeName: _message, ...model } = info.model!;
  assert.deepEqual(model, modelInfoOf(stand.bundle));
  assert.deepEqual([info.maxImageCount, info.maxChunkBytes], [16, 512 * 1024]);
  assert.deepEqual([info.limits?.maxMessageBytes, info.limits?.keyRequired], [4 * 2 ** 20, false]);
  const config = { address: "127.0.0.1:0", bundleFolder: "/nowhere", generatorAddress: stand.generator.address, threads: 1, provider: "cpu" } as const;
  await assert.rejects(startDecoder(config), { kind: "not-found", message: /\/nowhere/ });
});
