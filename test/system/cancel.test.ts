import assert from "node:assert/strict";
import { after, test } from "node:test";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { collectImages, errorOf, events, firstEvent, startTestStack } from "#test/doubles/start-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

const GRID_SIZE = 48;
/** Sixteen images of 2,304 tokens: more work than `WAIT` allows for, so that a slot still held fails the test. */
const ENDLESS = { imageCount: 16 };
const WAIT = { timeoutMs: 10_000 };

const stack = await startTestStack({ bundle: await slowBundle(GRID_SIZE), env: { TESSERA_MAX_QUEUE: "1" } });
const generator = connect(GeneratorService, stack.stack.generator.address);
after(async () => {
  generator.close();
  await stack.stop();
});

/** A call that is cancelled by `cancel`, and what it ends with. */
function openCall(request = ENDLESS) {
  const controller = new AbortController();
  const call = events(stack, request, { signal: controller.signal });
  return {
    call,
    async cancel(): Promise<void> {
      controller.abort();
      assert.equal((await errorOf(call) as { kind?: string } | undefined)?.kind, "cancelled");
    },
  };
}

/** The next request gets its turn soon. */
async function expectTurn(): Promise<void> {
  const next = events(stack, {}, WAIT);
  await firstEvent(next, "started");
  await next.return(undefined);
}

async function queueLength(): Promise<number> {
  return (await generator.client.getGeneratorInfo({})).queueLength;
}

test("a cancel in the middle of decoding frees the slot for the next", async () => {
  const first = openCall();
  await firstEvent(first.call, "progress");
  await first.cancel();
  await expectTurn();
});

test("a cancel while queued frees the place in the queue", async () => {
  const running = openCall();
  await firstEvent(running.call, "progress");
  const queued = openCall();
  assert.equal((await firstEvent(queued.call, "queued")).position, 1);
  assert.equal(await queueLength(), 1);
  await queued.cancel();
  // With room for one, the next would be refused for as long as the place is not free.
  while (await queueLength() > 0);
  const next = openCall();
  await firstEvent(next.call, "queued");
  await next.cancel();
  while (await queueLength() > 0);
  await running.cancel();
  await expectTurn();
});

test("a cancel in the decoder, all tokens being there, leaves it ready for the next", async () => {
  const first = openCall({ imageCount: 1 });
  let { tokensDone } = await firstEvent(first.call, "progress");
  while (tokensDone < GRID_SIZE ** 2) ({ tokensDone } = await firstEvent(first.call, "progress"));
  await first.cancel();
  const next = await collectImages(events(stack, {}, WAIT));
  assert.equal(next.pictures.length, 1);
});

test("a consumer that just stops reading frees the slot too", async () => {
  for await (const event of events(stack, ENDLESS)) {
    if (event.type === "progress") break;
  }
  await expectTurn();
});
