import { diag, DiagLogLevel, type DiagLogger } from "@opentelemetry/api";
import { settlesWithin } from "#libs/async/within.js";
import { choiceEnv, intEnv, type Env } from "#libs/config/env.js";
import { AppError } from "#libs/errors/errors.js";
import { observeEventLoop } from "./event-loop.js";
import { log } from "./log.js";

/** Telemetry of one process. */
export interface Telemetry {
  /** Send what is left and stop. Takes at most `TELEMETRY_STOP_MS`, with or without a collector, and never throws. */
  stop(): Promise<void>;
}

const EXPORTERS = { TRACES: ["otlp", "console", "none"], METRICS: ["otlp", "prometheus", "console", "none"] } as const;

/** Where the SDK's own complaints go. */
const DIAGNOSTICS: DiagLogger = {
  error: (message) => log.warn("telemetry fails", { reason: String(message) }),
  warn: (message) => {
    // What we ask for ourselves.
    if (!/_EXPORTER contains "none"/.test(message)) log.warn("telemetry complains", { reason: String(message) });
  },
  info: () => {}, debug: () => {}, verbose: () => {},
};

/** How long the last traces and metrics may take to leave: a missing collector must not delay a stop. */
export const TELEMETRY_STOP_MS = 2000;

/**
 * Start traces and metrics if the environment names where they go: an `OTEL_EXPORTER_OTLP_*ENDPOINT` or an
 * `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` (`otlp`, `prometheus`, `console`). Otherwise nothing is loaded and
 * every span and metric costs next to nothing. Call it before the first span; once a process.
 * What goes wrong on the way is logged.
 * @param serviceName the `service.name` of all that leaves.
 * @throws AppError `invalid-request` naming the variable that is wrong.
 */
export async function startTelemetry(serviceName: string): Promise<Telemetry> {
  const exporters = exportersOf(process.env);
  if (exporters === undefined) return { stop: async () => {} };
  // The SDK reads its exporters from the environment alone, and takes a missing name for a collector on this machine.
  Object.assign(process.env, exporters);
  try {
    const { NodeSDK } = await import("@opentelemetry/sdk-node");
    const sdk = new NodeSDK({ serviceName });
    // After the SDK has set its own, which would write to stdout.
    diag.setLogger(DIAGNOSTICS, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
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
    // As the services themselves: open to others only where they are told to be.
    OTEL_EXPORTER_PROMETHEUS_HOST: env["OTEL_EXPORTER_PROMETHEUS_HOST"] || "127.0.0.1",
    // Not "process": it would send the command line, which may hold a prompt.
    OTEL_NODE_RESOURCE_DETECTORS: env["OTEL_NODE_RESOURCE_DETECTORS"] || "env,host",
  };
}

/** One exporter or, as the SDK takes them, several with commas between. */
function exporterOf(env: Env, signal: "TRACES" | "METRICS"): string {
  const endpoints = ["OTEL_EXPORTER_OTLP_ENDPOINT", `OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`].filter((name) => env[name]);
  const name = `OTEL_${signal}_EXPORTER`;
  const exporters = (env[name] || (endpoints.length > 0 ? "otlp" : "none")).split(",").map((word) => word.trim());
  for (const exporter of exporters) choiceEnv({ [name]: exporter }, name, { choices: EXPORTERS[signal], default: "none" });
  if (exporters.includes("prometheus")) intEnv(env, "OTEL_EXPORTER_PROMETHEUS_PORT", { min: 0, max: 65_535, default: 9464 });
  const protocol = env[`OTEL_EXPORTER_OTLP_${signal}_PROTOCOL`] || env["OTEL_EXPORTER_OTLP_PROTOCOL"];
  // Over gRPC an endpoint needs no scheme.
  if (exporters.includes("otlp") && protocol !== "grpc") for (const endpoint of endpoints) checkUrl(endpoint, env[endpoint]!);
  return exporters.join();
}

function checkUrl(name: string, text: string): void {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return;
  throw new AppError("invalid-request", `${name} must be a URL such as http://collector:4318, got "${text}"`);
}

async function stopWithin(shutdown: () => Promise<void>): Promise<void> {
  let failure: unknown;
  const done = shutdown().catch((error: unknown) => {
    failure = error;
  });
  if (!await settlesWithin(done, TELEMETRY_STOP_MS)) log.warn("the last telemetry did not leave in time", { limit_ms: TELEMETRY_STOP_MS });
  else if (failure !== undefined) log.warn("the last telemetry did not leave", { reason: String(failure) });
}
