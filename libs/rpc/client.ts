import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import {
  ClientError, createChannel, createClientFactory, Metadata, Status,
  type Client, type ClientMiddleware, type CompatServiceDefinition,
} from "nice-grpc";
import type { Reloading } from "#libs/config/reloading-files.js";
import { AppError, invariant, notReady } from "#libs/errors/errors.js";
import { log } from "#libs/telemetry/log.js";
import { earliest, TIMEOUT_HEADER, timeoutHeader } from "./deadline.js";
import { niceDefinition, shortName, type CallLimits, type Definition } from "./definition.js";
import { letDrainingConnectionsLive } from "./draining-ping.js";
import { openEdge } from "./edge.js";
import {
  CONNECT_TIMEOUT_MS, KEEPALIVE_TIME_MS, KEEPALIVE_TIMEOUT_MS, MAX_MESSAGE_BYTES, MAX_RECONNECT_MS, MIN_RECONNECT_MS,
  STREAM_TIMEOUT_MS, UNARY_TIMEOUT_MS,
} from "./limits.js";
import type { Security } from "./security.js";
import { linkSignals } from "./signals.js";
import { DETAILS_TRAILER, errorOf } from "./status.js";
import { channelCredentials } from "./tls.js";
import { clientTracing } from "./tracing.js";

/** The calls of a peer, over one connection that is made when first needed and made again when lost. */
export interface Connection<D extends CompatServiceDefinition> {
  /** Its calls end with an answer or an `AppError`, at the latest at their deadline. */
  readonly client: Client<D, CallLimits>;
  /** Open calls end as `not-ready`. */
  close(): void;
}

/** What a connection shows and how it is measured. */
export interface ConnectionOptions {
  /** Whom to trust, and the key to show. Left out: clear text and no key. */
  readonly security?: Security | undefined;
  /** The service that calls, e.g. `decoder`: bytes and waiting are measured on this edge. Left out: not measured. */
  readonly caller?: string;
}

const CHANNEL_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc.initial_reconnect_backoff_ms": MIN_RECONNECT_MS,
  "grpc.max_reconnect_backoff_ms": MAX_RECONNECT_MS,
  // Despite its name this bounds one attempt to connect; nice-grpc enforces it where grpc-js does not.
  "grpc.min_reconnect_backoff_ms": CONNECT_TIMEOUT_MS,
  // Calls go to all addresses of a name in turn, such as the pods behind a headless service.
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
} as const;

/**
 * Connect to a generated service. Errors keep their kind, violations, retry delay and error id over the hop; each call
 * carries its deadline to the peer, and its trace.
 * @param address `host:port`. A name with several addresses gets calls on all of them in turn.
 */
export function connect<M extends GenServiceMethods>(
  service: GenService<M>, address: string, { security, caller }: ConnectionOptions = {},
): Connection<Definition<M>> {
  const edge = caller === undefined ? undefined : openEdge(caller, shortName(service.typeName));
  const definition = niceDefinition(service, edge?.meter);
  // Proxies of the environment are for a way out of a network that services do not take among themselves.
  const usesProxy = edge === undefined && !/^(localhost|127\.|\[::1\])/.test(address);
  return openClient(definition, address, { security, usesProxy, middleware: edge ? [ownFailures, edge.middleware, clientTracing] : [clientTracing] });
}

/** How a client is opened. */
export interface ClientOptions {
  readonly security?: Security | undefined;
  /** Go through a proxy that the environment names; default false. */
  readonly usesProxy?: boolean;
  readonly middleware?: readonly ClientMiddleware[];
}

/** `connect` for a definition that is not ours, untraced and unmeasured unless told. */
export function openClient<D extends CompatServiceDefinition>(
  definition: D, address: string,
  { security = {}, usesProxy = false, middleware = [] }: ClientOptions = {},
): Connection<D> {
  letDrainingConnectionsLive();
  const channel = createChannel(address, channelCredentials(security.tls), { ...CHANNEL_OPTIONS, "grpc.enable_http_proxy": Number(usesProxy) });
  // What is added last is the outermost: it sees errors as callers do.
  const factory = [withKey(security.ownKey), clientCalls as ClientMiddleware, ...middleware]
    .reduce((made, next) => made.use(next), createClientFactory());
  return { client: factory.create(definition, channel) as Client<D, CallLimits>, close: () => channel.close() };
}

/** Shows a key with every call that shows none. */
function withKey(key: Reloading<string> | undefined): ClientMiddleware {
  return async function* (call, options) {
    const metadata = Metadata(options.metadata);
    if (key !== undefined && !metadata.has("authorization")) metadata.set("authorization", `Bearer ${key.latest}`);
    return yield* call.next(call.request, { ...options, metadata });
  };
}

/** What surrounds every call: its deadline, on both ends, and statuses as errors. */
const clientCalls: ClientMiddleware<CallLimits> = async function* (call, options) {
  const { deadline: _deadline, timeoutMs: _timeoutMs, signal: caller, onTrailer, ...rest } = options;
  const defaultMs = call.requestStream || call.responseStream ? STREAM_TIMEOUT_MS : UNARY_TIMEOUT_MS;
  const deadline = earliest(options, defaultMs);
  const { signal, release } = linkSignals(caller === undefined ? [] : [caller], deadline);
  const metadata = Metadata(rest.metadata).set(TIMEOUT_HEADER, timeoutHeader(deadline - Date.now()));
  let details: Uint8Array | undefined;
  try {
    return yield* call.next(call.request, {
      ...rest, metadata, signal,
      onTrailer(trailer) {
        details = trailer.get(DETAILS_TRAILER);
        onTrailer?.(trailer);
      },
    });
  } catch (error) {
    throw signal.aborted ? AppError.from(signal.reason) : clientError(error, call.method.path, details);
  } finally {
    release();
  }
};

/**
 * What a neighbour has against the calling service is not its client's fault: a key that is not known here may be known at
 * another replica.
 */
const ownFailures: ClientMiddleware = async function* (call, options) {
  try {
    return yield* call.next(call.request, options);
  } catch (error) {
    const { kind, message } = AppError.from(error);
    if (kind !== "unauthenticated" && kind !== "permission-denied") throw error;
    const peer = serviceName(call.method.path);
    log.error("a neighbour refuses this service's key", { peer, reason: message });
    throw notReady(`${peer} refuses this service's key`, error);
  }
};

/** What a call ended with, as an error. Without details the status was made by the transport, not by a handler. */
function clientError(error: unknown, path: string, details: Uint8Array | undefined): AppError {
  if (!(error instanceof ClientError)) return AppError.from(error);
  if (details !== undefined) return errorOf({ code: error.code, message: error.details, details }, error);
  if (error.code === Status.UNAVAILABLE || error.code === Status.CANCELLED) {
    return notReady(`${serviceName(path)} cannot be reached`, error);
  }
  // It would be so again: this is not a service that is busy.
  if (error.code === Status.RESOURCE_EXHAUSTED && /larger than max/.test(error.details)) return invariant(error.details, error);
  return errorOf({ code: error.code, message: error.details }, error);
}

/** `TokenizerService` of `/tessera.v1.TokenizerService/Encode`. */
function serviceName(path: string): string {
  return path.split("/")[1].split(".").at(-1) ?? path;
}
