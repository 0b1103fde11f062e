import { metrics, type Attributes, type Counter, type Histogram } from "@opentelemetry/api";
import { SCOPE, type Metric } from "./names.js";

// Made at first use: what is made before telemetry has started stays silent for good.
const histograms = new Map<Metric, Histogram>();
const counters = new Map<Metric, Counter>();

/** Bucket bounds in seconds, from one token to one queue of images. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100];

/** Record one duration. @param milliseconds of a monotonic clock such as `performance.now()`; exported in seconds. */
export function recordDuration(metric: Metric, milliseconds: number, attributes?: Attributes): void {
  let histogram = histograms.get(metric);
  if (histogram === undefined) {
    const { name, unit, description } = metric;
    histogram = metrics.getMeter(SCOPE).createHistogram(name, {
      unit, description, advice: { explicitBucketBoundaries: SECONDS },
    });
    histograms.set(metric, histogram);
  }
  histogram.record(milliseconds / 1000, attributes);
}

/** Add to a count. */
export function count(metric: Metric, amount: number, attributes?: Attributes): void {
  let counter = counters.get(metric);
  if (counter === undefined) {
    const { name, unit, description } = metric;
    counter = metrics.getMeter(SCOPE).createCounter(name, { unit, description });
    counters.set(metric, counter);
  }
  counter.add(amount, attributes);
}

/** Report a current value whenever metrics are collected. Call it once a metric, after telemetry has started. */
export function observe(metric: Metric, current: () => number): void {
  const { name, unit, description } = metric;
  metrics.getMeter(SCOPE).createObservableGauge(name, { unit, description }).addCallback((result) => {
    result.observe(current());
  });
}
