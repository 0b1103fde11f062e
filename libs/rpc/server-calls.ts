import { ServerError, type CallContext as NiceCallContext, type Metadata, type ServerMiddleware } from "nice-grpc";
import { AppError, invalidFields } from "#libs/errors/errors.js";
import { count } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, type RejectionReason } from "#libs/telemetry/names.js";
import { errorFields, log } from "#libs/telemetry/log.js";
import type { Admission, ApiKeys } from "./api-keys.js";
import type { CallGate } from "./call-gate.js";
import { callerLimits } from "./caller-limits.js";
import { deadlineOf } from "./deadline.js";
import { MalformedRequest, shortName, type CallContext } from "./definition.js";
import { linkSignals } from "./signals.js";
import { DETAILS_TRAILER, statusOf } from "./status.js";

/**
 * What surrounds every handler: the gate, the caller's key, the deadline, one signal for all reasons to stop, and errors as statuses.
 * A stream ends at its next message after the signal has fired, whether its handler looks at the signal or not.
 */
export function serverCalls(gate: CallGate, keys?: ApiKeys): ServerMiddleware<CallContext> {
  return async function* (call, context: NiceCallContext) {
    const deadline = deadlineOf(context.metadata);
    const { signal, release } = linkSignals([context.signal, gate.abortSignal], deadline);
    let leave: (() => void) | undefined;
    let admission: Admission | undefined;
    try {
      leave = enter(gate);
      admission = keys?.admit(context.metadata, serviceName(call.method.path));
      const own = { ...context, signal, deadline, limits: callerLimits(admission?.key) };
      // `never`: the type of `next` is a union over the call shapes, which a request of either shape fits.
      const request = (call.requestStream ? wellFormedStream(call.request) : wellFormed(call.request)) as never;
      if (!call.responseStream) return yield* call.next(request, own);
      for await (const response of call.next(request, own)) {
        signal.throwIfAborted();
        yield response;
      }
      return;
    } catch (error) {
      throw serverError(error, { method: call.method.path, trailer: context.trailer, signal });
    } finally {
      release();
      admission?.leave();
      leave?.();
    }
  };
}

function enter(gate: CallGate): () => void {
  try {
    return gate.enter();
  } catch (error) {
    count(METRICS.rejections, 1, { [ATTRIBUTES.reason]: "not-ready" satisfies RejectionReason });
    throw error;
  }
}

/** `tokenizer` of `/tessera.v1.TokenizerService/Encode`. */
function serviceName(path: string): string {
  return shortName(path.split("/")[1]);
}

function wellFormed<T>(request: T): T {
  if (!(request instanceof MalformedRequest)) return request;
  const description = `must be a valid ${request.typeName}: malformed bytes, or text that is not UTF-8`;
  throw invalidFields([{ field: "request", description }]);
}

async function* wellFormedStream<T>(requests: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const request of requests) yield wellFormed(request);
}

/** The error as nice-grpc sends it. An internal one goes to the log with all its causes, once. */
function serverError(
  thrown: unknown, call: { readonly method: string; readonly trailer: Metadata; readonly signal: AbortSignal },
): ServerError {
  const error = AppError.from(thrown);
  const { code, message, details, errorId } = statusOf(
    error.kind === "cancelled" && call.signal.aborted ? AppError.from(call.signal.reason) : error,
  );
  if (errorId !== undefined && errorId !== error.errorId) {
    log.error("internal error", { error_id: errorId, method: call.method, ...errorFields(thrown) });
  }
  call.trailer.set(DETAILS_TRAILER, details);
  return new ServerError(code, message);
}
