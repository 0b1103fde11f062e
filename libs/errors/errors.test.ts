import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError, invalidFields, invalidRequest, invariant, overloaded } from "./errors.js";

test("an invalid request names the field, the rule and the value", () => {
  const error = invalidRequest("generation.guidance_scale", "1 .. 100", 0.5);
  assert.equal(error.kind, "invalid-request");
  assert.equal(error.message, "`generation.guidance_scale` must be 1 .. 100, got 0.5");
  assert.deepEqual(error.violations, [
    { field: "generation.guidance_scale", description: "must be 1 .. 100, got 0.5" },
  ]);
  assert.equal(invalidRequest("generation.prompt", "not empty").message, "`generation.prompt` must be not empty");
});

test("several violations share one message, and long values are cut", () => {
  const error = invalidFields([
    { field: "a", description: "must be 1, got 2" },
    { field: "b", description: "must be 3, got 4" },
  ]);
  assert.equal(error.message, "`a` must be 1, got 2; `b` must be 3, got 4");
  assert.ok(invalidRequest("name", "short", "x".repeat(5000)).message.length < 150);
});

test("from() keeps an AppError, knows aborts and timeouts, and takes the rest for our bug", () => {
  const known = overloaded("the queue is full", 250);
  assert.equal(AppError.from(known), known);
  assert.equal(known.retryDelayMs, 250);

  assert.equal(AppError.from(new DOMException("gone", "AbortError")).kind, "cancelled");
  assert.equal(AppError.from(new DOMException("late", "TimeoutError")).kind, "deadline-exceeded");
  const controller = new AbortController();
  controller.abort();
  assert.equal(AppError.from(controller.signal.reason).kind, "cancelled");

  const bug = new RangeError("index 7");
  assert.equal(AppError.from(bug).kind, "internal");
  assert.equal(AppError.from(bug).cause, bug);
  assert.equal(AppError.from("text").kind, "internal");
  assert.equal(invariant("a slot was freed twice").kind, "internal");
});
