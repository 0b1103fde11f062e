import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { METRICS, prometheusName, type Metric } from "./names.js";

const README = new URL("../../../libs/telemetry/README.md", import.meta.url);
const metrics: readonly Metric[] = Object.values(METRICS);

function row(metric: Metric): string {
  const { type, unit, attributes = [], description } = metric;
  return `| \`${prometheusName(metric)}\` | ${type} | ${unit} | ${attributes.join(", ").replaceAll(".", "_")} | ${description} |`;
}

test("the table of metrics is what is declared", () => {
  const shown = readFileSync(README, "utf8").split("\n").filter((line) => line.startsWith("| `"));
  assert.deepEqual(shown, metrics.map(row));
});

test("names are what Prometheus takes as they are, each once", () => {
  assert.equal(new Set(metrics.map(prometheusName)).size, metrics.length);
  for (const { name, type } of metrics) {
    assert.match(name, /^[a-z][a-z0-9_.]*$/);
    assert.equal(name.endsWith("_total") && name !== METRICS.kvSlotsTotal.name, type === "counter", name);
  }
});

test("buckets rise, and reach half an hour where an image on a CPU can take that long", () => {
  for (const { name, type, buckets = [] } of metrics) {
    assert.equal(buckets.length > 0, type === "histogram", name);
    assert.deepEqual([...buckets].sort((a, b) => a - b), [...buckets], name);
  }
  for (const metric of [METRICS.requestDuration, METRICS.timeToFirstToken, METRICS.timeToImage, METRICS.queueTime]) {
    assert.equal(metric.buckets.at(-1), 1800, metric.name);
  }
});
