import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { AppError } from "#libs/errors/errors.js";
import { errorOf, events, firstEvent, makeImages, startTestStack, type TestStack } from "#test/doubles/start-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

const ENDLESS = { imageCount: 16 };

async function start(t: TestContext, options: Parameters<typeof startTestStack>[0] = {}): Promise<TestStack> {
  const stack = await startTestStack(options);
  t.after(() => stack.stop());
  return stack;
}

async function failureOf(call: AsyncIterable<unknown>): Promise<AppError> {
  const error = await errorOf(call);
  assert.ok(error instanceof AppError, `an AppError, got ${String(error)}`);
  return error;
}

test("a dead tokenizer is UNAVAILABLE for the client of the decoder", async (t) => {
  const stack = await start(t);
  await makeImages(stack);
  stack.stack.tokenizer.kill("SIGKILL");
  await stack.stack.tokenizer.ended;
  const error = await failureOf(events(stack));
  assert.equal(error.kind, "not-ready");
  assert.match(error.message, /TokenizerService/);
});

test("a generator that dies while decoding is UNAVAILABLE", async (t) => {
  const stack = await start(t, { bundle: await slowBundle(32) });
  const call = events(stack, ENDLESS);
  await firstEvent(call, "progress");
  stack.stack.generator.kill("SIGKILL");
  assert.equal((await failureOf(call)).kind, "not-ready");
  assert.equal((await failureOf(events(stack))).kind, "not-ready");
});

test("a frozen generator is DEADLINE_EXCEEDED, and serves again once it thaws", async (t) => {
  const stack = await start(t);
  await makeImages(stack);
  stack.stack.generator.kill("SIGSTOP");
  assert.equal((await failureOf(events(stack, {}, { timeoutMs: 1000 }))).kind, "deadline-exceeded");
  stack.stack.generator.kill("SIGCONT");
  assert.equal((await makeImages(stack)).pictures.length, 1);
});

test("a full queue is RESOURCE_EXHAUSTED with a delay after which to try again", async (t) => {
  const stack = await start(t, { bundle: await slowBundle(32), env: { TESSERA_MAX_QUEUE: "0" } });
  const running = events(stack, ENDLESS);
  await firstEvent(running, "progress");
  const error = await failureOf(events(stack));
  assert.equal(error.kind, "overloaded");
  assert.ok(error.retryDelayMs! > 0, `a delay, got ${error.retryDelayMs}`);
  await running.return(undefined);
});
