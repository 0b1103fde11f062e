import { metrics, type Attributes, type Counter, type Histogram } from "@opentelemetry/api";
import { SCOPE, type MetricOf } from "./names.js";

// Made at first use: what is made before telemetry has started stays silent for good.
const histograms = new Map<MetricOf<"histogram">, Histogram>();
const counters = new Map<MetricOf<"counter">, Counter>();

/** Record one duration. @param milliseconds of a monotonic clock such as `performance.now()`; exported in seconds. */
export function recordDuration(metric: MetricOf<"histogram">, milliseconds: number, attributes?: Attributes): void {
  recordAmount(metric, milliseconds / 1000, attributes);
}

/** Record one amount, in the metric's unit. */
export function recordAmount(metric: MetricOf<"histogram">, amount: number, attributes?: Attributes): void {
  let histogram = histograms.get(metric);
  if (histogram === undefined) {
    const { name, unit, description, buckets } = metric;
    histogram = metrics.getMeter(SCOPE).createHistogram(name, {
      unit, description, advice: { explicitBucketBoundaries: [...buckets] },
    });
    histograms.set(metric, histogram);
  }
  histogram.record(amount, attributes);
}

/** Add to a count. */
export function count(metric: MetricOf<"counter">, amount: number, attributes?: Attributes): void {
  let counter = counters.get(metric);
  if (counter === undefined) {
    const { name, unit, description } = metric;
    counter = metrics.getMeter(SCOPE).createCounter(name, { unit, description });
    counters.set(metric, counter);
  }
  counter.add(amount, attributes);
}

/** Report a current value whenever metrics are collected. Call it once a metric, after telemetry has started. */
export function observe(metric: MetricOf<"gauge">, current: () => number): void {
  const { name, unit, description } = metric;
  metrics.getMeter(SCOPE).createObservableGauge(name, { unit, description }).addCallback((result) => {
    result.observe(current());
  });
}
