import assert from "node:assert/strict";
import { test } from "node:test";
import { Status } from "nice-grpc";
import { AppError, invalidFields, invariant, overloaded, type ErrorKind } from "#libs/errors/errors.js";
import { decodeStatusDetails, encodeStatusDetails } from "./status-details.js";
import { errorOf, statusOf } from "./status.js";

const CODES: Readonly<Record<ErrorKind, keyof typeof Status>> = {
  "invalid-request": "INVALID_ARGUMENT",
  "not-found": "NOT_FOUND",
  "unsupported": "UNIMPLEMENTED",
  "mismatch": "FAILED_PRECONDITION",
  "overloaded": "RESOURCE_EXHAUSTED",
  "not-ready": "UNAVAILABLE",
  "aborted": "ABORTED",
  "cancelled": "CANCELLED",
  "deadline-exceeded": "DEADLINE_EXCEEDED",
  "unauthenticated": "UNAUTHENTICATED",
  "permission-denied": "PERMISSION_DENIED",
  "internal": "INTERNAL",
};

test("every kind has its code and survives the way there and back", () => {
  for (const [kind, code] of Object.entries(CODES)) {
    const status = statusOf(new AppError(kind as ErrorKind, "message"));
    assert.equal(Status[status.code], code);
    assert.equal(errorOf(status).kind, kind);
  }
});

test("every gRPC code but OK becomes some kind, and UNKNOWN is nobody's", () => {
  for (const code of Object.values(Status).filter((value) => typeof value === "number")) {
    const { kind } = errorOf({ code: code as Status, message: "" });
    assert.notEqual(CODES[kind], "UNKNOWN");
  }
  assert.equal(errorOf({ code: Status.UNKNOWN, message: "" }).kind, "internal");
});

test("violations and retry delay survive two hops", () => {
  const invalid = invalidFields([
    { field: "generation.image_count", description: "must be 1 .. 16, got 17" },
    { field: "generation.sampling.top_p", description: "must be > 0 .. 1, got 2" },
  ]);
  const twice = errorOf(statusOf(errorOf(statusOf(invalid))));
  assert.deepEqual(twice.violations, invalid.violations);
  assert.equal(twice.message, invalid.message);

  for (const delay of [0, 1.5, 250, 61_500]) {
    assert.equal(errorOf(statusOf(errorOf(statusOf(overloaded("full", delay))))).retryDelayMs, delay);
  }
});

test("an internal error shows an id only, the same over all hops", () => {
  const status = statusOf(invariant("slot 3 of 'secret prompt' leaked"));
  assert.match(status.message, /^internal error [0-9a-f]{16}$/);
  assert.ok(!Buffer.from(status.details).includes("secret"));
  const next = statusOf(errorOf(status));
  assert.equal(next.errorId, status.errorId);
  assert.equal(next.message, status.message);
});

test("the details are google.rpc.Status on the wire", () => {
  const bytes = encodeStatusDetails(3, "no", { violations: [{ field: "f", description: "d" }] });
  const url = "type.googleapis.com/google.rpc.BadRequest";
  const violation = [0x0a, 1, 0x66, 0x12, 1, 0x64];
  const any = [0x0a, url.length, ...Buffer.from(url), 0x12, violation.length + 2, 0x0a, violation.length, ...violation];
  assert.deepEqual([...bytes], [0x08, 3, 0x12, 2, 0x6e, 0x6f, 0x1a, any.length, ...any]);
});

test("foreign or broken details are left out", () => {
  assert.deepEqual(decodeStatusDetails(new Uint8Array([0xff, 0xff, 0xff])), {});
  assert.deepEqual(decodeStatusDetails(new Uint8Array()), {});
  assert.equal(errorOf({ code: Status.ABORTED, message: "m", details: new Uint8Array([0x1a, 9, 1]) }).kind, "aborted");
});

test("a status with a thousand violations fits into trailers, first violations first", () => {
  const violations = Array.from({ length: 1000 }, (_, index) => ({ field: `prefixes[${index}]`, description: "must be \u65e5" }));
  const { message, details } = statusOf(invalidFields(violations));
  assert.ok(Buffer.byteLength(message) <= 1024 && message.endsWith("...") && !message.includes("\ufffd"));
  const told = errorOf({ code: Status.INVALID_ARGUMENT, message, details }).violations;
  assert.ok(told.length > 10);
  assert.deepEqual(told, violations.slice(0, told.length));
  assert.ok(encodeURIComponent(message).length + (details.length * 4) / 3 < 8192);
});
