import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata } from "nice-grpc";
import { deadlineOf, timeoutHeader } from "./deadline.js";

test("the time left is rounded up to milliseconds and fits in eight digits", () => {
  assert.equal(timeoutHeader(1500), "1500m");
  assert.equal(timeoutHeader(0.2), "1m");
  assert.equal(timeoutHeader(-5), "1m");
  assert.equal(timeoutHeader(1e12), "99999999m");
});

test("a call without a deadline never ends by time", () => {
  assert.equal(deadlineOf(Metadata()), Infinity);
});
