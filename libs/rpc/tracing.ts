import { context, propagation, ROOT_CONTEXT, SpanKind, type TextMapGetter, type TextMapSetter } from "@opentelemetry/api";
import { Metadata, ServerError, Status, type ClientMiddleware, type ServerMiddleware } from "nice-grpc";
import { AppError } from "#libs/errors/errors.js";
import { recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, type MetricOf } from "#libs/telemetry/names.js";
import { bindGenerator, openSpan, type OwnedSpan } from "#libs/telemetry/spans.js";
import { errorOf, statusCode } from "./status.js";

const setter: TextMapSetter<Metadata> = { set: (carrier, key, value) => void carrier.set(key, value) };
const getter: TextMapGetter<Metadata> = {
  get: (carrier, key) => carrier.get(key)?.toString(),
  keys: (carrier) => Array.from(carrier, ([key]) => key),
};

/**
 * One span and one duration for each call made, and the trace passed on to the peer. The span ends with the call, be
 * it by its end, an error, a cancel or a consumer that stops reading. No events per message: they cost microseconds each.
 */
export const clientTracing: ClientMiddleware = (call, options) => {
  const parent = context.active();
  return (async function* () {
    const record = openRecord(call.method.path, SpanKind.CLIENT, parent, METRICS.rpcClientDuration);
    const metadata = Metadata(options.metadata);
    propagation.inject(record.span.context, metadata, setter);
    try {
      const response = yield* call.next(call.request, { ...options, metadata });
      record.status = Status.OK;
      return response;
    } catch (error) {
      record.fail(AppError.from(error));
      throw error;
    } finally {
      record.end();
    }
  })();
};

/** One span and one duration for each call answered, in the trace of the caller; the handler runs inside the span. */
export const serverTracing: ServerMiddleware = (call, callContext) => {
  const parent = propagation.extract(ROOT_CONTEXT, callContext.metadata, getter);
  const record = openRecord(call.method.path, SpanKind.SERVER, parent, METRICS.rpcServerDuration);
  return bindGenerator(record.span.context, (async function* () {
    try {
      const response = yield* call.next(call.request, callContext);
      record.status = Status.OK;
      return response;
    } catch (error) {
      record.fail(error instanceof ServerError ? errorOf({ code: error.code, message: "" }) : AppError.from(error));
      throw error;
    } finally {
      record.end();
    }
  })());
};

/** One call under way: CANCELLED unless something better is known by its end. */
interface CallRecord {
  readonly span: OwnedSpan;
  status: Status;
  fail(error: AppError): void;
  end(): void;
}

function openRecord(path: string, kind: SpanKind, parent: ReturnType<typeof context.active>, metric: MetricOf<"histogram">): CallRecord {
  const [, service, method] = path.split("/");
  const attributes = {
    [ATTRIBUTES.rpcSystem]: "grpc", [ATTRIBUTES.rpcService]: service, [ATTRIBUTES.rpcMethod]: method,
  };
  const started = performance.now();
  const span = openSpan(`${service}/${method}`, { kind, parent, attributes });
  return {
    span,
    status: Status.CANCELLED,
    fail(error) {
      this.status = statusCode(error.kind);
      span.fail(error);
    },
    end() {
      const status = { [ATTRIBUTES.rpcStatusCode]: this.status };
      span.set(status);
      span.end();
      recordDuration(metric, performance.now() - started, { ...attributes, ...status });
    },
  };
}
