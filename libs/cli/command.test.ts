import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError, invalidRequest, mismatch, overloaded } from "#libs/errors/errors.js";
import { failureText, parseFlags } from "./command.js";

test("an error tells a person what to do", () => {
  assert.equal(failureText(overloaded("the queue is full", 1234)), "error: the queue is full\nTry again in 1.2 s.");
  assert.match(failureText(invalidRequest("--seed", "a whole number")), /^error: `--seed` must be a whole number\n.*--help/);
  assert.equal(failureText(mismatch("another bundle")), "error: another bundle");
  assert.match(failureText(new AppError("internal", "internal error 1f", { errorId: "1f" })), /1f\nThe service's log/);
});

test("a flag that does not exist is a usage error", () => {
  assert.throws(() => parseFlags({ args: ["--nope"], options: {}, strict: true }), { kind: "invalid-request", message: /--nope/ });
});
