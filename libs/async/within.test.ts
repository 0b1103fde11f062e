import assert from "node:assert/strict";
import { test } from "node:test";
import { settlesWithin } from "./within.js";

test("tells settled from pending, and a rejection is settled", async () => {
  const never = new Promise(() => {});
  assert.equal(await settlesWithin(Promise.resolve(1), 60_000), true);
  assert.equal(await settlesWithin(Promise.reject(new Error("late")), 60_000), true);
  assert.equal(await settlesWithin(Promise.resolve(1), 0), true);
  assert.equal(await settlesWithin(never, 0), false);
});
