import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { imageEvents } from "#libs/cli/image-stream.js";
import { startGeneratorPair, type GeneratorPair } from "#test/doubles/generator-pair.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";
import { collectImages, type TestImages } from "#test/doubles/start-stack.js";

const GRID_SIZE = 24;
/** What a generator may still do after SIGTERM: a part of two images. */
const DRAIN_MS = 100;

let pair: GeneratorPair;
/** What nobody disturbs. */
let calm: TestImages;

before(async () => {
  pair = await startGeneratorPair(await slowBundle(GRID_SIZE), { TESSERA_DRAIN_MS: String(DRAIN_MS) });
  calm = await makeImages();
});
after(() => pair.stop());

/** Two images; `disturb` is called once some of their tokens are there. */
async function makeImages(disturb?: () => Promise<void>): Promise<TestImages> {
  const counts: number[] = [0, 0];
  const types: string[] = [];
  let disturbed: Promise<void> | undefined;
  const call = imageEvents(pair.client.generateImage({
    generation: { prompt: "a dog on a hill", seed: 11n, imageCount: 2 }, includeTokens: true,
  }));
  const watched = async function* () {
    for await (const event of call) {
      yield event;
      if (event.type === "queued" || event.type === "started") types.push(event.type);
      if (event.type !== "progress") continue;
      counts[event.imageIndex] += event.tokens.length;
      assert.equal(event.tokensDone, counts[event.imageIndex], "tokens come once and without gaps");
      if (Math.min(...counts) > 0) disturbed ??= disturb?.();
    }
  };
  const images = await collectImages(watched());
  assert.deepEqual(types.filter((type) => type === "started"), ["started"]);
  assert.equal(types.at(-1), "started", "none waits after its start");
  await disturbed;
  return images;
}

function assertCalm(images: TestImages): void {
  assert.deepEqual(images.finished.map(({ tokenDigest }) => tokenDigest), calm.finished.map(({ tokenDigest }) => tokenDigest));
  assert.deepEqual(images.finished.map(({ tokens }) => tokens), calm.finished.map(({ tokens }) => tokens));
  assert.deepEqual(images.pictures.map(({ height, width }) => [height, width]), calm.pictures.map(({ height, width }) => [height, width]));
}

for (const [signal, what] of [["SIGKILL", "dies"], ["SIGTERM", "drains and cannot finish in time"]] as const) {
  test(`images of a generator that ${what} go on at the other, and their client does not notice`, async () => {
    let victim = -1;
    const images = await makeImages(async () => {
      victim = await pair.busiest();
      pair.generators[victim].kill(signal);
    });
    assert.match((await pair.generators[victim].ended).message, signal === "SIGKILL" ? /SIGKILL/ : /exit code 0/);
    assertCalm(images);
    await pair.restart(victim);
  });
}

test("new calls meet the replica that stays while the other drains", async () => {
  const endless = new AbortController();
  const busy = pair.client.generateImage({ generation: { prompt: "a cat", imageCount: 16 } }, { signal: endless.signal })[Symbol.asyncIterator]();
  while ((await busy.next()).value?.event.case !== "progress");
  const victim = await pair.busiest();
  pair.generators[victim].kill("SIGTERM");
  const calls = await Promise.all([makeImages(), makeImages(), makeImages()]);
  for (const images of calls) assertCalm(images);
  endless.abort();
  await assert.rejects(async () => {
    while (!(await busy.next()).done);
  }, { kind: "cancelled" });
  assert.match((await pair.generators[victim].ended).message, /exit code 0/);
});
