import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { AppError, notReady } from "#libs/errors/errors.js";
import { linkSignals } from "./signals.js";

test("fires with the first source and passes its reason on", () => {
  const caller = new AbortController();
  const server = new AbortController();
  const { signal } = linkSignals([caller.signal, server.signal], Infinity);
  const reason = notReady("the service is stopping");
  server.abort(reason);
  caller.abort();
  assert.equal(signal.reason, reason);
});

test("the reason is an AppError, and a cancellation at the deadline is the deadline", () => {
  const caller = new AbortController();
  const early = linkSignals([caller.signal], Date.now() + 3_600_000);
  const late = linkSignals([caller.signal], Date.now());
  caller.abort();
  assert.ok(early.signal.reason instanceof AppError);
  assert.equal(early.signal.reason.kind, "cancelled");
  assert.equal(late.signal.reason.kind, "deadline-exceeded");
});

test("a source that has fired before fires at once", () => {
  const { signal } = linkSignals([new AbortController().signal, AbortSignal.abort()], Infinity);
  assert.equal(signal.reason.kind, "cancelled");
});

test("the deadline fires without any source", async () => {
  const { signal } = linkSignals([], Date.now() + 1);
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  assert.equal(signal.reason.kind, "deadline-exceeded");
});

test("nothing is left on a source after a release or after a shot", () => {
  const source = new AbortController();
  const released = linkSignals([source.signal], Infinity);
  const fired = linkSignals([source.signal, AbortSignal.abort()], Infinity);
  released.release();
  assert.equal(getEventListeners(source.signal, "abort").length, 0);
  source.abort();
  assert.equal(released.signal.aborted, false);
  assert.equal(fired.signal.aborted, true);
});

test("many calls may share a source", async () => {
  const warnings: string[] = [];
  const listen = ({ name }: Error) => void warnings.push(name);
  process.on("warning", listen);
  const source = new AbortController();
  const links = Array.from({ length: 50 }, () => linkSignals([source.signal], Infinity));
  await new Promise(setImmediate);
  process.off("warning", listen);
  assert.deepEqual(warnings, []);
  source.abort(new Error("over"));
  assert.ok(links.every(({ signal }) => signal.aborted));
});
