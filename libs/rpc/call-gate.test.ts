import assert from "node:assert/strict";
import { test } from "node:test";
import { settlesWithin } from "#libs/async/within.js";
import { CallGate } from "./call-gate.js";

test("nobody comes in before it opens and after it closes", async () => {
  const gate = new CallGate();
  assert.throws(() => gate.enter(), { kind: "not-ready", message: "the service is loading" });
  gate.setOpen(true);
  gate.enter()();
  await gate.close();
  gate.setOpen(true);
  assert.equal(gate.isClosed, true);
  assert.throws(() => gate.enter(), { kind: "not-ready", message: "the service is stopping" });
});

test("closing settles when the last one has left", async () => {
  const gate = new CallGate();
  gate.setOpen(true);
  const first = gate.enter();
  const second = gate.enter();
  const closed = gate.close();
  first();
  assert.equal(await settlesWithin(closed, 0), false);
  second();
  await closed;
});

test("an abort tells those inside that the call may be tried elsewhere", () => {
  const gate = new CallGate();
  gate.abort();
  assert.equal(gate.abortSignal.reason.kind, "not-ready");
});
