import { trace } from "@opentelemetry/api";

/** How much a line matters. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/** What a line says beside its message: plain values only, and never prompts or pixels. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

const LEVELS: readonly LogLevel[] = ["debug", "info", "warn", "error", "silent"];
const DEFAULT_LEVEL: LogLevel = "info";

let serviceName = "tessera";

/** The level that a text names; `info` for none. An unknown word counts as `info`: a log must not stop a service. */
export function levelOf(text: string | undefined): LogLevel {
  return LEVELS.find((level) => level === text) ?? DEFAULT_LEVEL;
}

/** Put this name into every line from now on. */
export function nameLog(name: string): void {
  serviceName = name;
}

/** Write one line of JSON to stderr if its level reaches TESSERA_LOG_LEVEL, with the ids of the active span. */
export const log = {
  debug: (message: string, fields?: LogFields) => write("debug", message, fields),
  info: (message: string, fields?: LogFields) => write("info", message, fields),
  warn: (message: string, fields?: LogFields) => write("warn", message, fields),
  error: (message: string, fields?: LogFields) => write("error", message, fields),
} as const;

/** An error and its causes as fields: stacks for the log, where nobody outside reads them. */
export function errorFields(error: unknown): LogFields {
  const parts: string[] = [];
  for (let cause = error; cause !== undefined && parts.length < 8; cause = (cause as { cause?: unknown }).cause) {
    parts.push(cause instanceof Error ? cause.stack ?? cause.message : String(cause));
    if (typeof cause !== "object" || cause === null) break;
  }
  return { error: parts.join("\ncaused by: ") };
}

/** One line of the log, without its newline. */
export function logLine(level: LogLevel, message: string, fields: LogFields = {}): string {
  const span = trace.getActiveSpan()?.spanContext();
  return JSON.stringify({
    time: new Date().toISOString(),
    level,
    service: serviceName,
    message,
    ...fields,
    ...(span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId }),
  });
}

function write(level: LogLevel, message: string, fields?: LogFields): void {
  const threshold = levelOf(process.env["TESSERA_LOG_LEVEL"]);
  if (LEVELS.indexOf(level) >= LEVELS.indexOf(threshold)) process.stderr.write(`${logLine(level, message, fields)}\n`);
}
