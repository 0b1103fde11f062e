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

test("what is misspelt is named, and /metrics stays on this machine unless told otherwise", () => {
  const wrong: readonly [variables: Record<string, string>, named: RegExp][] = [
    [{ OTEL_METRICS_EXPORTER: "promethues" }, /OTEL_METRICS_EXPORTER must be one of otlp, prometheus, console, none/],
    [{ OTEL_TRACES_EXPORTER: "otpl" }, /OTEL_TRACES_EXPORTER must be one of otlp, console, none/],
    [{ OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: "abc" }, /OTEL_EXPORTER_PROMETHEUS_PORT must be a whole number/],
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, /OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http/],
    [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "garbage" }, /OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL/],
  ];
  for (const [variables, message] of wrong) assert.throws(() => exportersOf(variables), { kind: "invalid-request", message });
  const lists = exportersOf({ OTEL_TRACES_EXPORTER: "otlp, console", OTEL_METRICS_EXPORTER: "prometheus,otlp" });
  assert.deepEqual([lists?.["OTEL_TRACES_EXPORTER"], lists?.["OTEL_METRICS_EXPORTER"]], ["otlp,console", "prometheus,otlp"]);
  exportersOf({ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc", OTEL_EXPORTER_OTLP_ENDPOINT: "127.0.0.1:4317" });
  exportersOf({ OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_OTLP_ENDPOINT: "unused" });
  const host = (env: Record<string, string>) => exportersOf({ OTEL_METRICS_EXPORTER: "prometheus", ...env })?.["OTEL_EXPORTER_PROMETHEUS_HOST"];
  assert.deepEqual([host({}), host({ OTEL_EXPORTER_PROMETHEUS_HOST: "0.0.0.0" })], ["127.0.0.1", "0.0.0.0"]);
});

test("the command line never leaves", () => {
  const detectors = exportersOf({ OTEL_TRACES_EXPORTER: "otlp" })?.["OTEL_NODE_RESOURCE_DETECTORS"];
  assert.equal(detectors, "env,host");
});
