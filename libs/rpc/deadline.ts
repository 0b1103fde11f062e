import { ServerInterceptingCall, type ServerInterceptor } from "@grpc/grpc-js";
import type { Metadata } from "nice-grpc";
import type { CallLimits } from "./definition.js";

/** The request header by which gRPC carries a deadline, as the time that is left. */
export const TIMEOUT_HEADER = "grpc-timeout";

/** Where the interceptor leaves the deadline; it never crosses the wire. */
const DEADLINE_KEY = "tessera-deadline";

/** gRPC allows eight digits; in milliseconds that is more than a day. */
const MAX_TIMEOUT_MS = 99_999_999;

/** The value of `TIMEOUT_HEADER` for the time that is left, in milliseconds, rounded up. */
export function timeoutHeader(remainingMs: number): string {
  return `${Math.min(MAX_TIMEOUT_MS, Math.max(1, Math.ceil(remainingMs)))}m`;
}

/** The deadline that a call's limits come to, in Unix milliseconds; `defaultMs` from now if they set none. */
export function earliest({ deadline = Infinity, timeoutMs = Infinity }: CallLimits, defaultMs: number): number {
  const wanted = Math.min(deadline, Date.now() + timeoutMs);
  return wanted === Infinity ? Date.now() + defaultMs : wanted;
}

/** Leave each call's deadline where `deadlineOf` finds it: grpc-js knows it and nice-grpc does not pass it on. */
export const deadlineInterceptor: ServerInterceptor = (_method, call) => new ServerInterceptingCall(call, {
  start: (next) => next({
    onReceiveMetadata: (metadata, pass) => {
      metadata.set(DEADLINE_KEY, String(Number(call.getDeadline())));
      pass(metadata);
    },
  }),
});

/** When the caller of a call stops waiting, in ms as in `Date.now()`; `Infinity` for never. */
export function deadlineOf(metadata: Metadata): number {
  return Number(metadata.get(DEADLINE_KEY) ?? Infinity);
}
