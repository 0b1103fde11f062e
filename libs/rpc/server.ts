import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { logVerbosity, setLogVerbosity, type ServerCredentials } from "@grpc/grpc-js";
import { createServer, ServerError, type Server, type ServerMiddleware } from "nice-grpc";
import { HealthDefinition, HealthServiceImpl, HealthState } from "nice-grpc-server-health";
import { ServerReflectionService } from "nice-grpc-server-reflection";
import { settlesWithin } from "#libs/async/within.js";
import { AppError, notReady } from "#libs/errors/errors.js";
import { ApiKeys } from "./api-keys.js";
import { CallGate } from "./call-gate.js";
import { deadlineInterceptor } from "./deadline.js";
import { niceDefinition, type ServiceImplementation } from "./definition.js";
import { letDrainingConnectionsLive } from "./draining-ping.js";
import {
  ABORT_MS, DRAIN_MS, KEEPALIVE_TIME_MS, KEEPALIVE_TIMEOUT_MS, MAX_CONNECTION_AGE_MS, MAX_MESSAGE_BYTES,
  NOTICE_MS,
} from "./limits.js";
import { reflectionOf } from "./reflection.js";
import type { Security } from "./security.js";
import { serverCalls } from "./server-calls.js";
import { linkSignals } from "./signals.js";
import { cut, statusOf } from "./status.js";
import { serverCredentials } from "./tls.js";
import { serverTracing } from "./tracing.js";

/** A service and its handlers; made by `implement`, which checks that they fit. */
export interface ServiceEntry {
  readonly service: GenService<GenServiceMethods>;
  readonly implementation: ServiceImplementation<GenService<GenServiceMethods>>;
}

/** A server that listens. */
export interface RunningServer {
  /** `host:port` with the real port. */
  readonly address: string;
  /** Let calls in and report SERVING, or neither. Starts as false; has no effect after `stop`. */
  setServing(serving: boolean): void;
  /**
   * Report whether the process moves on, which a busy, loading or draining one does: if not, NOT_SERVING under `LIVE` and
   * under every other name. Calls still come in. Starts as true.
   */
  setAlive(alive: boolean): void;
  /**
   * Stop for good: report NOT_SERVING and refuse new calls at once, send clients elsewhere after `NOTICE_MS`, give open
   * calls `graceMs`, abort the rest as `not-ready`, then cut what is left. `healthAddress` answers until the end. Never
   * throws; a second call awaits the first.
   */
  stop(graceMs?: number): Promise<void>;
}

/** How a server is started. */
export interface ServerOptions {
  /** `host:port`; port 0 takes a free one. */
  readonly address: string;
  readonly services: readonly ServiceEntry[];
  /** `host:port` that answers health in clear text and without a key, for probes that know neither. */
  readonly healthAddress?: string;
  /** Health and reflection need no key; the services do, if there are any. */
  readonly security?: Security;
}

/** The name under which health tells whether the process is alive; all other names tell whether it serves. */
export const LIVE = "live";

const SERVER_OPTIONS = {
  "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
  "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
  "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
  "grpc.max_connection_age_ms": MAX_CONNECTION_AGE_MS,
  interceptors: [deadlineInterceptor],
};

/**
 * A service with its handlers.
 * @param implementation the handlers, or, where they come to be only after the server listens, how to get them; calls
 *   are refused until `setServing(true)`, so it is not asked before.
 */
export function implement<M extends GenServiceMethods>(
  service: GenService<M>,
  implementation: ServiceImplementation<GenService<M>> | (() => ServiceImplementation<GenService<M>>),
): ServiceEntry {
  type Handlers = Record<string, (...call: unknown[]) => unknown>;
  const handlers = () => (typeof implementation === "function" ? implementation() : implementation) as Handlers;
  const forwarders = service.methods.map(({ localName }) => [
    localName, (...call: unknown[]) => handlers()[localName](...call),
  ]);
  return { service: service as GenService<GenServiceMethods>, implementation: Object.fromEntries(forwarders) };
}

/**
 * Start a server with health and reflection. It refuses calls as `not-ready` until `setServing(true)`.
 * @throws AppError `not-ready` if the address cannot be bound.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { address, services, healthAddress, security = {} } = options;
  letDrainingConnectionsLive();
  const gate = new CallGate();
  const health = HealthState();
  let [isServing, isAlive] = [false, true];
  const report = () => {
    const status = isServing && isAlive && !gate.isClosed ? "healthy" : "unhealthy";
    for (const name of ["", ...services.map(({ service }) => service.typeName)]) health.setStatus(status, name);
    health.setStatus(isAlive ? "healthy" : "unhealthy", LIVE);
  };
  const setServing = (serving: boolean) => {
    gate.setOpen(serving);
    isServing = serving;
    report();
  };
  const setAlive = (alive: boolean) => {
    isAlive = alive;
    report();
  };
  report();

  // What grpc-js would print beside our log reaches us as errors too.
  if (!process.env["GRPC_VERBOSITY"]) setLogVerbosity(logVerbosity.NONE);
  const closing = new AbortController();
  const server = createServer(SERVER_OPTIONS);
  server.with(until(closing.signal)).add(HealthDefinition, HealthServiceImpl(health));
  server.with(until(closing.signal)).add(ServerReflectionService, reflectionOf(services.map(({ service }) => service)));
  const keys = security.keys && new ApiKeys(security.keys);
  for (const { service, implementation } of services) {
    server.with(serverTracing).with(serverCalls(gate, keys)).add(niceDefinition(service), implementation);
  }
  const port = await listen(server, address, serverCredentials(security.tls));
  const healthServer = createServer(SERVER_OPTIONS);
  healthServer.with(until(closing.signal)).add(HealthDefinition, HealthServiceImpl(health));
  try {
    if (healthAddress !== undefined) await listen(healthServer, healthAddress);
  } catch (error) {
    server.forceShutdown();
    throw error;
  }

  let stopped: Promise<void> | undefined;
  const stop = async (graceMs: number) => {
    const empty = gate.close();
    setServing(false);
    await drain({ server, gate, closing, empty }, graceMs);
    healthServer.forceShutdown();
  };
  return {
    address: address.replace(/:\d+$/, `:${port}`),
    setServing,
    setAlive,
    stop: (graceMs = DRAIN_MS) => stopped ??= stop(graceMs),
  };
}

async function listen(server: Server, address: string, credentials?: ServerCredentials): Promise<number> {
  try {
    return await server.listen(address, credentials);
  } catch (error) {
    const { message } = error as Error;
    const [, reason = message] = /\[(.+)\]/.exec(message) ?? [];
    throw notReady(`cannot listen on ${address}: ${reason}`, error);
  }
}

/** A server that takes no new calls, and what ends the calls it has. */
interface ClosedServer {
  readonly server: Server;
  readonly gate: CallGate;
  /** Ends health watches. */
  readonly closing: AbortController;
  /** Settles when the last call has left. */
  readonly empty: Promise<void>;
}

async function drain({ server, gate, closing, empty }: ClosedServer, graceMs: number): Promise<void> {
  const graceEnd = Date.now() + graceMs;
  let isEmpty = await settlesWithin(empty, Math.min(NOTICE_MS, graceMs));
  if (isEmpty) closing.abort(notReady("the service is stopping"));
  // From now on connections take no new calls and cannot be made: clients turn to other replicas.
  const closed = server.shutdown();
  isEmpty ||= await settlesWithin(empty, graceEnd - Date.now());
  if (!isEmpty) {
    gate.abort();
    isEmpty = await settlesWithin(empty, ABORT_MS);
  }
  closing.abort(notReady("the service is stopping"));
  // Even without calls the last bytes have to leave before the connections are cut.
  const bytesLeft = isEmpty && await settlesWithin(closed, Math.max(ABORT_MS, graceEnd - Date.now()));
  if (!bytesLeft) server.forceShutdown();
}

/** Ends streams that would otherwise last as long as their clients. */
function until(end: AbortSignal): ServerMiddleware {
  return async function* (call, context) {
    const { signal, release } = linkSignals([context.signal, end], Infinity);
    try {
      return yield* call.next(call.request, { ...context, signal });
    } catch (error) {
      // Such services name what was asked for in their errors.
      if (!signal.aborted) throw error instanceof ServerError ? new ServerError(error.code, cut(error.details)) : error;
      const { code, message } = statusOf(AppError.from(signal.reason));
      throw new ServerError(code, message);
    } finally {
      release();
    }
  };
}
