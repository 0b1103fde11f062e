import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "#libs/errors/errors.js";
import { errorFields, levelOf, log, logLine } from "./log.js";

test("a line is one JSON object with level, service and fields", () => {
  const line = logLine("info", "loaded", { seconds: 1.5, file: "a\nb" });
  assert.ok(!line.includes("\n"));
  const { time, ...rest } = JSON.parse(line);
  assert.ok(!Number.isNaN(Date.parse(time)));
  assert.deepEqual(rest, { level: "info", service: "tessera", message: "loaded", seconds: 1.5, file: "a\nb" });
});

test("an unknown level counts as info", () => {
  assert.equal(levelOf("silent"), "silent");
  assert.equal(levelOf("loud"), "info");
  assert.equal(levelOf(undefined), "info");
});

test("a level below the threshold writes nothing", (t) => {
  const written = t.mock.method(process.stderr, "write", () => true);
  process.env["TESSERA_LOG_LEVEL"] = "warn";
  t.after(() => { delete process.env["TESSERA_LOG_LEVEL"]; });
  log.info("not this");
  log.warn("but this");
  assert.equal(written.mock.callCount(), 1);
});

test("an error is logged with all its causes, and a circle of them ends", () => {
  const root = new RangeError("index 7");
  const { error } = errorFields(new AppError("internal", "a step failed", { cause: root }));
  assert.match(String(error), /AppError: a step failed[^]*caused by: RangeError: index 7/);
  root.cause = root;
  assert.ok(String(errorFields(root)["error"]).includes("index 7"));
  assert.deepEqual(errorFields("text"), { error: "text" });
});
