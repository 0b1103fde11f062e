import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { AppError } from "#libs/errors/errors.js";
import { Priority } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { GeneratorCall, startGeneratorStand, type Generation, type GeneratorEvent, type GeneratorStand } from "#test/doubles/generator-stand.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

const GRID_SIZE = 32;
/** Sixteen images of 1,024 tokens, one after the other: many seconds. */
const LONG = { imageCount: 16 };

let stand: GeneratorStand;

before(async () => {
  stand = await startGeneratorStand({ bundleFolder: await slowBundle(GRID_SIZE), maxQueueLength: 3 });
});
after(() => stand.stop());

const isStarted = (event: GeneratorEvent) => event.case === "started";
const isPlace = (position: number) => (event: GeneratorEvent) => event.case === "queued" && event.value.position === position;

/** Calls that are all gone when the test ends. */
function opener(t: { after(release: () => Promise<void>): void }) {
  return (generation: Generation = {}, options: { readonly timeoutMs?: number } = {}) => {
    const call = new GeneratorCall(stand, generation, options);
    t.after(() => call.cancel());
    return call;
  };
}

/** Nobody waits, nothing runs, no position of the cache is filled. */
async function untilIdle(): Promise<void> {
  for (;;) {
    const { queueLength, running, kvCacheUsage } = await stand.client.getGeneratorInfo({});
    if (queueLength + running + kvCacheUsage === 0) return;
  }
}

test("those who wait hear their place and when to expect their turn, and again when the queue moves", async (t) => {
  await untilIdle();
  const open = opener(t);
  const running = open(LONG);
  await running.until(isStarted);
  const waiting: GeneratorCall[] = [];
  for (const place of [1, 2, 3]) {
    waiting.push(open());
    await waiting.at(-1)!.until(isPlace(place));
  }
  await waiting[0].cancel();
  await Promise.all([waiting[1].until(isPlace(1)), waiting[2].until(isPlace(2))]);
  await running.cancel();
  await Promise.all([waiting[1].whole(), waiting[2].whole()]);
  assert.deepEqual(waiting.map(({ places }) => places), [[1], [2, 1], [3, 2, 1]]);
  for (const { events } of waiting) {
    assert.ok(events.every((event) => event.case !== "queued" || event.value.estimatedStartMs > 0));
  }
});

test("a full queue refuses at once, with a time after which to come back", async (t) => {
  await untilIdle();
  const open = opener(t);
  await open(LONG).until(isStarted);
  for (const place of [1, 2, 3]) await open().until(isPlace(place));
  await assert.rejects(open().whole(), (error: AppError) => {
    assert.equal(error.kind, "overloaded");
    assert.match(error.message, /queue is full: 3 requests wait/);
    assert.ok(error.retryDelayMs! > 0);
    return true;
  });
});

test("cancelling gives the turn to the next request, whether at work or waiting", async (t) => {
  await untilIdle();
  const open = opener(t);
  const first = open(LONG);
  await first.until(isStarted);
  const second = open(LONG);
  await second.until(isPlace(1));
  const third = open();
  await third.until(isPlace(2));
  await second.cancel();
  await third.until(isPlace(1));
  await first.cancel();
  assert.equal((await third.whole()).events.at(-1)!.case, "imageFinished");
  await untilIdle();
});

test("a deadline that can't hold is refused at once with the estimate, one that can is kept", async (t) => {
  await untilIdle();
  const open = opener(t);
  const running = open(LONG);
  await running.until((event) => event.case === "tokenChunk");
  // Nearly sixteen images lie ahead: four times as long at least, on any machine.
  const timeoutMs = 1000;
  const { message, kind } = await open({}, { timeoutMs }).whole().then(() => assert.fail(), (error: AppError) => error);
  assert.equal(kind, "deadline-exceeded");
  const [, expected] = /the deadline can't hold: the images are expected in (\d+) ms/.exec(message) ?? [];
  assert.ok(Number(expected) > timeoutMs, message);
  await running.cancel();
  await untilIdle();
  await open({}, { timeoutMs: 600_000 }).whole();
});

test("an urgent request overtakes those who wait and takes the rows of the one at work, which then goes on", async (t) => {
  await untilIdle();
  const open = opener(t);
  const alone = (await open().whole()).tokens();
  const low = open({ priority: Priority.LOW });
  await low.until((event) => event.case === "tokenChunk");
  const normal = open({ seed: 6n });
  // It preempts the low one at once.
  await normal.until(isStarted);
  const late = open({ seed: 7n });
  await late.until(isPlace(1));
  const high = open({ seed: 8n, priority: Priority.HIGH });
  await high.whole();
  assert.equal(late.events.some(isStarted), false, "the urgent one is complete before the others go on");
  await Promise.all([low.whole(), normal.whole(), late.whole()]);
  assert.deepEqual(low.tokens(), alone, "what gave way ends in the same tokens");
  const preemptionsOf = (call: GeneratorCall) => {
    const finished = call.events.at(-1)!;
    return finished.case === "imageFinished" ? finished.value.timings!.preemptions : NaN;
  };
  assert.ok(preemptionsOf(low) >= 1 && preemptionsOf(normal) >= 1);
  assert.deepEqual([preemptionsOf(late), preemptionsOf(high)], [0, 0]);
});
