import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse, parseAllDocuments } from "yaml";
import { METRICS } from "#libs/telemetry/names.js";
import { readQuery } from "./queries.js";
import { DEPLOY, type Yaml } from "./render.js";

const read = (file: string) => readFileSync(DEPLOY + file, "utf8");
const dashboard = JSON.parse(read("kubernetes/components/monitoring/dashboard.json")) as Yaml;
const panels: readonly Yaml[] = dashboard.panels.filter(({ type }: Yaml) => type !== "row");
const collector = parse(read("kubernetes/components/collector/collector.yaml")) as Yaml;

test("every query of the dashboard asks for what services export, and everything exported is shown", () => {
  const queries = panels.flatMap(({ title, targets }) => targets.map(({ expr }: Yaml) => ({ title, ...readQuery(expr) })));
  assert.ok(queries.length >= panels.length && panels.length > 20);
  for (const { title, metrics, faults } of queries) {
    assert.deepEqual(faults, [], title);
    assert.ok(metrics.length > 0, title);
  }
  const shown = new Set(queries.flatMap(({ metrics }) => metrics));
  assert.deepEqual(Object.values(METRICS).filter((metric) => !shown.has(metric)).map(({ name }) => name), []);
});

test("panels have ids and places of their own", () => {
  const ids = dashboard.panels.map(({ id }: Yaml) => id);
  assert.equal(new Set(ids).size, ids.length);
  const places = dashboard.panels.map(({ gridPos }: Yaml) => `${gridPos.x} ${gridPos.y}`);
  assert.equal(new Set(places).size, places.length);
});

test("the autoscaler asks for what services export", () => {
  const objects = parseAllDocuments(read("kubernetes/components/autoscaling/scaled-objects.yaml")).map((document) => document.toJS() as Yaml);
  for (const { metadata, spec } of objects) {
    for (const { metadata: { query } } of spec.triggers) assert.deepEqual(readQuery(query).faults, [], metadata.name);
  }
});

test("a query for what is not there would not pass", () => {
  assert.deepEqual(readQuery("sum(rate(ar_nothing_total[1m]))").faults, ["no service exports ar_nothing_total"]);
  assert.deepEqual(readQuery("ar_step_seconds").faults, ["no service exports ar_step_seconds"]);
  assert.deepEqual(readQuery('sum by (colour) (ar_queue_length{shape="x"})').faults, ["no series here has the label colour", "no series here has the label shape"]);
  assert.deepEqual(readQuery("rate(ar_queue_length[1m])").faults, ["ar_queue_length is no count"]);
});

test("the collector takes what services send, and keeps the names", () => {
  const { receivers, processors, exporters, extensions, service } = collector;
  for (const pipeline of Object.values(service.pipelines) as Yaml[]) {
    for (const [kind, declared] of Object.entries({ receivers, processors, exporters })) {
      for (const name of pipeline[kind]) assert.ok(Object.hasOwn(declared as object, name), `${kind} ${name}`);
    }
  }
  assert.deepEqual(Object.keys(extensions), service.extensions);
  assert.equal(exporters.prometheus.add_metric_suffixes, false);
  const settings: readonly string[] = parse(read("kubernetes/components/collector/kustomization.yaml")).configMapGenerator[1].literals;
  assert.ok(settings.includes("OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"));
  assert.equal(receivers.otlp.protocols.http.endpoint, "0.0.0.0:4318");
  assert.equal(service.pipelines.traces.exporters[0], "otlp");
});
