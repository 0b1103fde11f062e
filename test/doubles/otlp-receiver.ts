import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** One span as it arrived. */
export interface ReceivedSpan {
  /** `service.name` of the process that sent it. */
  readonly service: string;
  readonly name: string;
  readonly kind: "internal" | "server" | "client";
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for a root. */
  readonly parentSpanId: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** In milliseconds of the sender's clock; a span arrives only once it has ended. */
  readonly startMs: number;
  readonly endMs: number;
  readonly isFailed: boolean;
}

/** Stands in for an OpenTelemetry collector that takes OTLP over HTTP as JSON. */
export interface OtlpReceiver {
  /** The environment that makes a process send here, soon after each span. */
  readonly env: Readonly<Record<string, string>>;
  readonly spans: readonly ReceivedSpan[];
  /** Names of all metrics received. */
  readonly metrics: ReadonlySet<string>;
  /** Everything received, as text: what must not leave must not be found in it. */
  readonly text: string;
  /** Settles once the condition holds; asks again after each arrival. */
  until(condition: (spans: readonly ReceivedSpan[]) => boolean): Promise<void>;
  close(): void;
}

const ERROR_STATUS = 2;

const KINDS = { 1: "internal", 2: "server", 3: "client" } as const;

interface Attribute { readonly key: string; readonly value: Readonly<Record<string, unknown>> }
interface WireSpan {
  readonly name: string; readonly kind: keyof typeof KINDS; readonly traceId: string; readonly spanId: string;
  readonly parentSpanId?: string; readonly attributes: readonly Attribute[];
  readonly startTimeUnixNano: string; readonly endTimeUnixNano: string; readonly status?: { readonly code?: number };
}
interface Resource { readonly attributes: readonly Attribute[] }
interface Payload {
  readonly resourceSpans?: readonly { resource: Resource; scopeSpans: readonly { spans: readonly WireSpan[] }[] }[];
  readonly resourceMetrics?: readonly { scopeMetrics: readonly { metrics: readonly { name: string }[] }[] }[];
}

/** A receiver on a free port of this machine. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const metrics = new Set<string>();
  const waiting = new Set<() => void>();
  let text = "";
  const take = (body: string) => {
    text += body;
    const { resourceSpans = [], resourceMetrics = [] } = JSON.parse(body) as Payload;
    spans.push(...resourceSpans.flatMap(spansOf));
    for (const { name } of resourceMetrics.flatMap((r) => r.scopeMetrics).flatMap((s) => s.metrics)) metrics.add(name);
    for (const check of waiting) check();
  };
  const server = createServer((request, response) => void answer(request, response, take)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "20",
    },
    spans,
    metrics,
    get text() {
      return text;
    },
    until: (condition) => new Promise((resolve) => {
      const check = () => {
        if (!condition(spans)) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    }),
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** The chain of spans from one span up to its root, as `service kind name`. */
export function pathToRoot(span: ReceivedSpan, spans: readonly ReceivedSpan[]): readonly string[] {
  const parent = spans.find(({ spanId, traceId }) => spanId === span.parentSpanId && traceId === span.traceId);
  const above = parent === undefined ? [] : pathToRoot(parent, spans);
  return [`${span.service} ${span.kind} ${span.name}`, ...above];
}

async function answer(request: IncomingMessage, response: ServerResponse, take: (body: string) => void): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  take(Buffer.concat(chunks).toString());
  response.writeHead(200, { "content-type": "application/json" }).end("{}");
}

function spansOf(received: NonNullable<Payload["resourceSpans"]>[number]): ReceivedSpan[] {
  const service = String(valuesOf(received.resource.attributes)["service.name"]);
  return received.scopeSpans.flatMap((scope) => scope.spans).map((span) => ({
    service,
    name: span.name,
    kind: KINDS[span.kind],
    traceId: span.traceId,
    spanId: span.spanId,
    parentSpanId: span.parentSpanId ?? "",
    attributes: valuesOf(span.attributes),
    startMs: Number(span.startTimeUnixNano) / 1e6,
    endMs: Number(span.endTimeUnixNano) / 1e6,
    isFailed: span.status?.code === ERROR_STATUS,
  }));
}

function valuesOf(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
