import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { ImageEvent } from "#libs/cli/image-stream.js";
import { AppError } from "#libs/errors/errors.js";
import {
  collectImages, errorOf, events, makeImages, startTestStack, type ImageRequest, type TestImages, type TestStack,
} from "#test/doubles/start-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

type Generation = NonNullable<ImageRequest["generation"]>;

const GRID_SIZE = 24;
const TOTAL = GRID_SIZE ** 2;
const REQUEST: Generation = { prompt: "a dog on a hill", seed: 11n, imageCount: 2 };
const WITH_TOKENS = { includeTokens: true };

let stack: TestStack;
/** What nobody disturbs. */
let whole: TestImages;

before(async () => {
  stack = await startTestStack({ bundle: await slowBundle(GRID_SIZE) });
  whole = await makeImages(stack, REQUEST, WITH_TOKENS);
});
after(() => stack.stop());

const digests = ({ finished }: TestImages): string[] => finished.map(({ tokenDigest }) => tokenDigest);

/** Read a call until both images have tokens; then break it. @returns the tokens of each image until then. */
async function broken(breakOff: () => void, signal?: AbortSignal): Promise<number[][]> {
  const received: number[][] = [[], []];
  const call = events(stack, REQUEST, { ...WITH_TOKENS, ...(signal && { signal }) });
  const error = await errorOf((async function* () {
    for await (const event of call) {
      yield event;
      if (event.type !== "progress") continue;
      received[event.imageIndex].push(...event.tokens);
      assert.equal(received[event.imageIndex].length, event.tokensDone);
      if (received.every(({ length }) => length > 0)) breakOff();
    }
  })());
  assert.ok(error instanceof AppError, "the call broke before its end");
  for (const [imageIndex, tokens] of received.entries()) {
    assert.deepEqual(tokens, whole.finished[imageIndex].tokens.slice(0, tokens.length));
    assert.ok(tokens.length < TOTAL, "it broke in the middle");
  }
  return received;
}

const prefixesOf = (received: readonly number[][]) => received.map((tokens, imageIndex) => ({ imageIndex, tokens }));

test("images cancelled half-way go on from the tokens received and end in the very same tokens", async () => {
  const cancel = new AbortController();
  const prefixes = prefixesOf(await broken(() => cancel.abort(), cancel.signal));
  const firstProgress: number[] = [];
  const watched = async function* (): AsyncGenerator<ImageEvent> {
    for await (const event of events(stack, { ...REQUEST, prefixes }, WITH_TOKENS)) {
      if (event.type === "progress") firstProgress[event.imageIndex] ??= event.tokensDone - event.tokens.length;
      yield event;
    }
  };
  const resumed = await collectImages(watched());
  assert.deepEqual(firstProgress, prefixes.map(({ tokens }) => tokens.length), "only what follows was drawn");
  assert.deepEqual(digests(resumed), digests(whole));
  assert.deepEqual(resumed.finished.map(({ tokens }) => tokens), whole.finished.map(({ tokens }) => tokens));
  const rawOf = ({ pictures }: TestImages) => pictures.map(({ height, width }) => [height, width]);
  assert.deepEqual(rawOf(resumed), rawOf(whole));
});

test("images of a generator that is killed go on in the one that follows it", async () => {
  const prefixes = prefixesOf(await broken(() => stack.stack.generator.kill("SIGKILL")));
  await stack.stack.generator.ended;
  await stack.restart("generator");
  // The decoder notices in its own time that there is a generator again.
  for (;;) {
    const resumed: TestImages | AppError = await makeImages(stack, { ...REQUEST, prefixes }).catch((error: AppError) => error);
    if (!(resumed instanceof AppError)) {
      assert.deepEqual(digests(resumed), digests(whole));
      return;
    }
    assert.equal(resumed.kind, "not-ready");
  }
});

test("a prefix of some rows with another seed is a variation; with the own seed it is the image", async () => {
  const rows = whole.finished[0].tokens.slice(0, 10 * GRID_SIZE);
  const from = (seed: bigint) => makeImages(stack, {
    ...REQUEST, seed, imageCount: 1, prefixes: [{ imageIndex: 0, tokens: rows }],
  }, WITH_TOKENS);
  const [same, variation, again, other] = [await from(11n), await from(12n), await from(12n), await from(13n)];
  assert.equal(digests(same)[0], digests(whole)[0]);
  assert.deepEqual(variation.finished[0].tokens.slice(0, rows.length), rows);
  assert.equal(digests(variation)[0], digests(again)[0]);
  assert.equal(new Set([same, variation, other].map((images) => digests(images)[0])).size, 3);
});

test("one image of a request may go on while the others begin anew", async () => {
  const prefixes = [{ imageIndex: 1, tokens: whole.finished[1].tokens.slice(0, TOTAL - 1) }];
  assert.deepEqual(digests(await makeImages(stack, { ...REQUEST, prefixes })), digests(whole));
});

test("prefixes that the generator refuses are named to the client of the decoder", async () => {
  const tokens = [1, 2, 3];
  const prefixes = [
    { imageIndex: 0, tokens: Array<number>(TOTAL).fill(0) }, { imageIndex: 2, tokens }, { imageIndex: 1, tokens: [36] },
    { imageIndex: 1, tokens },
  ];
  await assert.rejects(makeImages(stack, { ...REQUEST, prefixes }), (error: AppError) => {
    assert.equal(error.kind, "invalid-request");
    assert.deepEqual(error.violations.map(({ field, description }) => `${field} ${description}`), [
      `generation.prefixes[0].tokens must be fewer than ${TOTAL} tokens, got ${TOTAL}`,
      "generation.prefixes[1].image_index must be 0 .. 1, got 2",
      "generation.prefixes[2].tokens must be tokens of 0 .. 35, got 36",
      "generation.prefixes[3].image_index must be named once, got 1",
    ]);
    return true;
  });
});
