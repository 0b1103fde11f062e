import assert from "node:assert/strict";
import { test } from "node:test";
import { TokenBucket } from "./token-bucket.js";

test("so many at once, then evenly, and the wait is told", () => {
  let now = 0;
  const bucket = new TokenBucket(3, 60_000, () => now);
  assert.deepEqual([bucket.take(), bucket.take(), bucket.take()], [0, 0, 0]);
  assert.equal(bucket.take(), 20_000);
  now = 15_000;
  assert.equal(bucket.take(), 5000);
  now = 20_000;
  assert.equal(bucket.take(), 0);
  now = 10 * 60_000;
  assert.deepEqual([bucket.take(), bucket.take(), bucket.take()], [0, 0, 0], "never more than the capacity");
  assert.ok(bucket.take() > 0);
});

test("0 is no limit", () => {
  const bucket = new TokenBucket(0, 60_000, () => 0);
  for (let i = 0; i < 1000; i++) assert.equal(bucket.take(), 0);
});
