import { settlesWithin } from "#libs/async/within.js";
import type { Env } from "#libs/config/env.js";
import { observeEventLoop } from "./event-loop.js";
import { log } from "./log.js";

/** Telemetry of one process. */
export interface Telemetry {
  /** Send what is left and stop. Takes at most `TELEMETRY_STOP_MS`, with or without a collector, and never throws. */
  stop(): Promise<void>;
}

/** How long the last traces and metrics may take to leave: a missing collector must not delay a stop. */
export const TELEMETRY_STOP_MS = 2000;

/**
 * Start traces and metrics if the environment names where they go: an `OTEL_EXPORTER_OTLP_*ENDPOINT` or an
 * `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` (`otlp`, `prometheus`, `console`). Otherwise nothing is loaded and
 * every span and metric costs next to nothing. Call it before the first span; once a process.
 * @param serviceName the `service.name` of all that leaves.
 */
export async function startTelemetry(serviceName: string): Promise<Telemetry> {
  const exporters = exportersOf(process.env);
  if (exporters === undefined) return { stop: async () => {} };
  // The SDK reads its exporters from the environment alone, and takes a missing name for a collector on this machine.
  Object.assign(process.env, exporters);
  try {
    const { NodeSDK } = await import("@opentelemetry/sdk-node");
    const sdk = new NodeSDK({ serviceName });
    sdk.start();
    observeEventLoop();
    return { stop: () => stopWithin(sdk.shutdown.bind(sdk)) };
  } catch (error) {
    log.warn("telemetry did not start", { reason: (error as Error).message });
    return { stop: async () => {} };
  }
}

/** The variables that make the SDK export what an environment asks for and nothing else; undefined if it asks for nothing. */
export function exportersOf(env: Env): Readonly<Record<string, string>> | undefined {
  const traces = exporterOf(env, "TRACES");
  const metrics = exporterOf(env, "METRICS");
  if (traces === "none" && metrics === "none") return undefined;
  return {
    OTEL_TRACES_EXPORTER: traces,
    OTEL_METRICS_EXPORTER: metrics,
    OTEL_LOGS_EXPORTER: "none",
    // Not "process": it would send the command line, which may hold a prompt.
    OTEL_NODE_RESOURCE_DETECTORS: env["OTEL_NODE_RESOURCE_DETECTORS"] || "env,host",
  };
}

function exporterOf(env: Env, signal: "TRACES" | "METRICS"): string {
  const endpoint = env["OTEL_EXPORTER_OTLP_ENDPOINT"] || env[`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`];
  return env[`OTEL_${signal}_EXPORTER`] || (endpoint ? "otlp" : "none");
}

async function stopWithin(shutdown: () => Promise<void>): Promise<void> {
  let failure: unknown;
  const done = shutdown().catch((error: unknown) => {
    failure = error;
  });
  if (!await settlesWithin(done, TELEMETRY_STOP_MS)) log.warn("the last telemetry did not leave in time", { limit_ms: TELEMETRY_STOP_MS });
  else if (failure !== undefined) log.warn("the last telemetry did not leave", { reason: String(failure) });
}
