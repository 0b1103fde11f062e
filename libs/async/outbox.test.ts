import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox } from "./outbox.js";

test("what is put in comes out in order, before and while it is awaited, until it is closed", async () => {
  const outbox = new Outbox<number>();
  outbox.put(1);
  const sent = outbox[Symbol.asyncIterator]();
  assert.deepEqual(await sent.next(), { done: false, value: 1 });
  const next = sent.next();
  outbox.put(2);
  outbox.put(3);
  assert.deepEqual(await next, { done: false, value: 2 });
  outbox.close();
  assert.deepEqual(await sent.next(), { done: false, value: 3 });
  assert.equal((await sent.next()).done, true);
});

test("closing wakes whoever waits", async () => {
  const outbox = new Outbox<number>();
  const next = outbox[Symbol.asyncIterator]().next();
  outbox.close();
  assert.equal((await next).done, true);
});
