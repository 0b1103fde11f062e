import assert from "node:assert/strict";
import { after, test } from "node:test";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { collectImages, errorOf, events, firstEvent, startTestStack } from "#test/doubles/start-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

const GRID_SIZE = 48;
/** Sixteen images of 2,304 tokens, one after the other: more work than `LIMIT_MS` allows for. */
const ENDLESS = { imageCount: 16 };
/** A slot that is held for longer fails the test. */
const LIMIT_MS = 10_000;

const stack = await startTestStack({ bundle: await slowBundle(GRID_SIZE), env: { TESSERA_MAX_QUEUE: "1", TESSERA_MAX_RUNNING: "1" } });
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

/** Settles when the generator counts so many requests waiting and images at work. */
async function until(wanted: { readonly queueLength: number; readonly running: number }): Promise<void> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  for (;;) {
    const { queueLength, running, kvCacheUsage } = await generator.client.getGeneratorInfo({}, { signal });
    if (queueLength === wanted.queueLength && running === wanted.running && (running > 0 || kvCacheUsage === 0)) return;
  }
}

/** The slot comes free, and the next request gets its turn. */
async function expectTurn(): Promise<void> {
  await until({ queueLength: 0, running: 0 });
  const next = events(stack);
  await firstEvent(next, "started");
  await next.return(undefined);
  await until({ queueLength: 0, running: 0 });
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
  await until({ queueLength: 1, running: 1 });
  assert.equal((await errorOf(events(stack)) as { kind?: string } | undefined)?.kind, "overloaded");
  await queued.cancel();
  await until({ queueLength: 0, running: 1 });
  const next = openCall();
  await firstEvent(next.call, "queued");
  await next.cancel();
  await until({ queueLength: 0, running: 1 });
  await running.cancel();
  await expectTurn();
});

test("a cancel in the decoder, all tokens being there, leaves it ready for the next", async () => {
  const first = openCall({ imageCount: 1 });
  let { tokensDone } = await firstEvent(first.call, "progress");
  while (tokensDone < GRID_SIZE ** 2) ({ tokensDone } = await firstEvent(first.call, "progress"));
  await first.cancel();
  await until({ queueLength: 0, running: 0 });
  const next = await collectImages(events(stack));
  assert.equal(next.pictures.length, 1);
});

test("a consumer that just stops reading frees the slot too", async () => {
  for await (const event of events(stack, ENDLESS)) {
    if (event.type === "progress") break;
  }
  await expectTurn();
});
