import assert from "node:assert/strict";
import { test } from "node:test";
import { exportersOf } from "./telemetry.js";

test("nothing is exported unless the environment says where to", () => {
  assert.equal(exportersOf({}), undefined);
  assert.equal(exportersOf({ OTEL_EXPORTER_OTLP_ENDPOINT: "" }), undefined);
  assert.equal(exportersOf({ OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "" }), undefined);
});

test("an endpoint turns both on, a name only its own", () => {
  const both = exportersOf({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" });
  assert.deepEqual([both?.["OTEL_TRACES_EXPORTER"], both?.["OTEL_METRICS_EXPORTER"]], ["otlp", "otlp"]);
  const metrics = exportersOf({ OTEL_METRICS_EXPORTER: "prometheus" });
  assert.deepEqual([metrics?.["OTEL_TRACES_EXPORTER"], metrics?.["OTEL_METRICS_EXPORTER"]], ["none", "prometheus"]);
  const traces = exportersOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://collector:4318/v1/traces" });
  assert.deepEqual([traces?.["OTEL_TRACES_EXPORTER"], traces?.["OTEL_METRICS_EXPORTER"]], ["otlp", "none"]);
});

test("the command line never leaves", () => {
  const detectors = exportersOf({ OTEL_TRACES_EXPORTER: "otlp" })?.["OTEL_NODE_RESOURCE_DETECTORS"];
  assert.equal(detectors, "env,host");
});
