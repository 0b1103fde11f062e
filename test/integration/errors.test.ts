import assert from "node:assert/strict";
import { createServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { AppError, invalidFields, type ErrorKind } from "#libs/errors/errors.js";
import type { CallContext } from "#libs/rpc/definition.js";
import type { RunningServer } from "#libs/rpc/server.js";
import { CALL_SHAPES, forwardTo, startShape, type Behaviour, type CallShape } from "#test/doubles/call-shapes.js";

/** What a call ended with; fails the test if it succeeded. */
async function failureOf(call: Promise<unknown>): Promise<AppError> {
  const outcome: unknown = await call.catch((error: unknown) => error);
  assert.ok(outcome instanceof AppError, `an AppError, got ${String(outcome)}`);
  return outcome;
}

async function start(t: TestContext, shape: CallShape, behave: Behaviour): Promise<RunningServer> {
  const server = await startShape(shape, behave);
  t.after(() => server.stop(0));
  return server;
}

/** A behaviour that goes on until its signal fires, and the context of the call once it is there. */
function untilAborted(): { readonly behave: Behaviour; readonly entered: Promise<CallContext>; readonly left: Promise<AppError> } {
  let enter: (context: CallContext) => void;
  let leave: (reason: AppError) => void;
  const entered = new Promise<CallContext>((resolve) => { enter = resolve; });
  const left = new Promise<AppError>((resolve) => { leave = resolve; });
  const behave: Behaviour = (context) => new Promise((_resolve, reject) => {
    enter(context);
    context.signal.addEventListener("abort", () => {
      leave(context.signal.reason);
      reject(context.signal.reason);
    });
  });
  return { behave, entered, left };
}

for (const shape of CALL_SHAPES) {
  test(`${shape.name}: success`, async (t) => {
    const server = await start(t, shape, async () => {});
    assert.equal(await shape.call(server.address), shape.name === "unary" ? 1 : 2);
  });

  test(`${shape.name}: an invalid argument names every field`, async (t) => {
    const thrown = invalidFields([
      { field: "generation.image_count", description: "must be 0 .. 16, got 17" },
      { field: "generation.prompt", description: "must not be empty" },
    ]);
    const server = await start(t, shape, async () => { throw thrown; });
    const error = await failureOf(shape.call(server.address));
    assert.equal(error.kind, "invalid-request");
    assert.equal(error.message, thrown.message);
    assert.deepEqual(error.violations, thrown.violations);
  });

  test(`${shape.name}: an internal error shows its id, and the log the rest`, async (t) => {
    const written = t.mock.method(process.stderr, "write", () => true);
    const server = await start(t, shape, async () => { throw new TypeError("secret of the house"); });
    const error = await failureOf(shape.call(server.address));
    assert.equal(error.kind, "internal");
    assert.equal(error.message, `internal error ${error.errorId}`);
    const lines = written.mock.calls.map((call) => JSON.parse(String(call.arguments[0])));
    const line = lines.find(({ error_id }) => error_id === error.errorId);
    assert.match(line.error, /TypeError: secret of the house\n\s+at /);
    assert.equal(lines.length, 1);
  });

  test(`${shape.name}: an internal error keeps its id over two hops and is logged once`, async (t) => {
    const written = t.mock.method(process.stderr, "write", () => true);
    const far = await start(t, shape, async () => { throw new Error("secret"); });
    const near = await start(t, shape, forwardTo(shape, far.address));
    const error = await failureOf(shape.call(near.address));
    assert.equal(written.mock.callCount(), 1);
    assert.equal(JSON.parse(String(written.mock.calls[0].arguments[0])).error_id, error.errorId);
  });

  test(`${shape.name}: a caller that leaves is noticed two hops away`, async (t) => {
    const { behave, entered, left } = untilAborted();
    const far = await start(t, shape, behave);
    const near = await start(t, shape, forwardTo(shape, far.address));
    const caller = new AbortController();
    const failure = failureOf(shape.call(near.address, { signal: caller.signal }));
    await entered;
    caller.abort();
    assert.equal((await failure).kind, "cancelled");
    assert.equal((await left).kind, "cancelled");
  });

  test(`${shape.name}: the deadline is known two hops away`, async (t) => {
    const { behave, entered } = untilAborted();
    const far = await start(t, shape, behave);
    const near = await start(t, shape, forwardTo(shape, far.address));
    const caller = new AbortController();
    const deadline = Date.now() + 3_600_000;
    const failure = failureOf(shape.call(near.address, { deadline, signal: caller.signal }));
    const seen = (await entered).deadline;
    assert.ok(Math.abs(seen - deadline) < 60_000, `within a minute of ${deadline}, got ${seen}`);
    caller.abort();
    await failure;
  });

  test(`${shape.name}: a call ends at its deadline on both sides`, async (t) => {
    const { behave, left } = untilAborted();
    const server = await start(t, shape, behave);
    const error = await failureOf(shape.call(server.address, { timeoutMs: 200 }));
    assert.equal(error.kind, "deadline-exceeded");
    await left;
  });

  test(`${shape.name}: a deadline already past fails at once`, async (t) => {
    const server = await start(t, shape, async () => {});
    const error = await failureOf(shape.call(server.address, { deadline: Date.now() - 1 }));
    assert.equal(error.kind, "deadline-exceeded");
  });

  test(`${shape.name}: a drain lets open calls finish and refuses new ones`, async (t) => {
    let enter: () => void, finish: () => void;
    const entered = new Promise<void>((resolve) => { enter = resolve; });
    const finished = new Promise<void>((resolve) => { finish = resolve; });
    const server = await start(t, shape, async () => {
      enter();
      await finished;
    });
    const open = shape.call(server.address);
    await entered;
    const stopped = server.stop();
    const refused = await failureOf(shape.call(server.address));
    assert.equal(refused.kind, "not-ready");
    assert.equal(refused.message, "the service is stopping");
    finish!();
    assert.equal(await open, shape.name === "unary" ? 1 : 2);
    await stopped;
  });

  test(`${shape.name}: a forced stop aborts open calls so that they can be tried elsewhere`, async (t) => {
    const { behave, entered, left } = untilAborted();
    const server = await start(t, shape, behave);
    const failure = failureOf(shape.call(server.address));
    await entered;
    await server.stop(0);
    assert.equal((await left).kind, "not-ready");
    assert.equal((await failure).kind, "not-ready");
  });

  test(`${shape.name}: a handler deaf to its signal does not hold up a stop`, async (t) => {
    let enter: () => void;
    const entered = new Promise<void>((resolve) => { enter = resolve; });
    const server = await start(t, shape, () => {
      enter();
      return new Promise(() => {});
    });
    const failure = failureOf(shape.call(server.address));
    await entered;
    await server.stop(0);
    assert.equal((await failure).kind, "not-ready");
  });

  test(`${shape.name}: an absent peer is not ready`, async (t) => {
    const gone = await startShape(shape, async () => {});
    await gone.stop(0);
    assert.equal((await failureOf(shape.call(gone.address))).kind, "not-ready");
    const near = await start(t, shape, forwardTo(shape, gone.address));
    const error = await failureOf(shape.call(near.address));
    assert.equal(error.kind, "not-ready");
    assert.match(error.message, /^(Tokenizer|Generator)Service cannot be reached$/);
  });

  test(`${shape.name}: a peer that never answers costs no more than the deadline`, async (t) => {
    const mute = createServer((socket) => {
      t.after(() => socket.destroy());
    }).listen(0, "127.0.0.1");
    t.after(() => mute.close());
    await new Promise((resolve) => mute.once("listening", resolve));
    const { port } = mute.address() as AddressInfo;
    const error = await failureOf(shape.call(`127.0.0.1:${port}`, { timeoutMs: 200 }));
    assert.equal(error.kind, "deadline-exceeded");
  });

  test(`${shape.name}: every kind survives two hops`, async (t) => {
    const kinds: readonly ErrorKind[] = [
      "invalid-request", "not-found", "unsupported", "mismatch", "overloaded", "not-ready", "aborted", "cancelled",
      "deadline-exceeded", "unauthenticated", "permission-denied",
    ];
    let thrown: AppError;
    const far = await start(t, shape, async () => { throw thrown; });
    const near = await start(t, shape, forwardTo(shape, far.address));
    for (const kind of kinds) {
      thrown = new AppError(kind, `the message of ${kind}`, { retryDelayMs: 1250 });
      const { kind: got, message, retryDelayMs } = await failureOf(shape.call(near.address));
      assert.deepEqual([got, message, retryDelayMs], [kind, thrown.message, 1250]);
    }
  });
}
