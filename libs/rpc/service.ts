import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { invariant, type AppError } from "#libs/errors/errors.js";
import type { ServiceImplementation } from "./definition.js";
import { STALL_POLL_MS } from "./limits.js";
import type { Security } from "./security.js";
import { implement, startServer } from "./server.js";

/** What a service consists of once it is loaded and warm. */
export interface LoadedService<M extends GenServiceMethods> {
  readonly implementation: ServiceImplementation<GenService<M>>;
  /** Settles once the service can answer no more: undefined after `close()`, the error if a part of it died. */
  readonly ended?: Promise<AppError | undefined>;
  /** Whether it has work and has not moved on for too long. Then it reports NOT_SERVING under every name until it does. */
  isStalled?(): boolean;
  /** Free what was loaded; called once, when no call is left. */
  close(): Promise<void>;
}

/** How a service is started. */
export interface ServiceOptions<M extends GenServiceMethods> {
  /** `host:port`; port 0 takes a free one. */
  readonly address: string;
  readonly service: GenService<M>;
  /** `host:port` for probes, in clear text and without a key. */
  readonly healthAddress?: string | undefined;
  readonly security?: Security | undefined;
  /** Load and warm up; the server already listens and reports NOT_SERVING. */
  load(options: { readonly signal: AbortSignal }): Promise<LoadedService<M>>;
  /** Gives up loading. */
  readonly signal?: AbortSignal;
}

/** A service that serves. */
export interface RunningService {
  /** `host:port` with the real port. */
  readonly address: string;
  /** Settles with the error if a part of the service died; it reports NOT_SERVING from then on. Otherwise never. */
  readonly failed: Promise<AppError>;
  /** Drain as `RunningServer.stop` does, then free everything. A second call awaits the first. */
  stop(graceMs?: number): Promise<void>;
}

/** Listen, load, then serve. If loading fails nothing is left behind and its error is thrown. */
export async function startService<M extends GenServiceMethods>(options: ServiceOptions<M>): Promise<RunningService> {
  const { address, service, load, healthAddress, security, signal = new AbortController().signal } = options;
  let loaded: LoadedService<M> | undefined;
  const server = await startServer({
    address,
    ...(healthAddress && { healthAddress }),
    ...(security && { security }),
    services: [implement(service, () => {
      if (loaded === undefined) throw invariant("a call came in before the service was loaded");
      return loaded.implementation;
    })],
  });
  try {
    loaded = await load({ signal });
    signal.throwIfAborted();
  } catch (error) {
    await server.stop(0);
    await loaded?.close();
    throw error;
  }
  server.setServing(true);

  const { close, ended, isStalled } = loaded;
  const watch = isStalled && setInterval(() => server.setAlive(!isStalled()), STALL_POLL_MS).unref();
  const failed = new Promise<AppError>((resolve) => void ended?.then((error) => {
    if (error === undefined) return;
    server.setServing(false);
    resolve(error);
  }));
  let stopped: Promise<void> | undefined;
  const stop = async (graceMs?: number) => {
    await server.stop(graceMs);
    clearInterval(watch);
    await close();
  };
  return { address: server.address, failed, stop: (graceMs) => stopped ??= stop(graceMs) };
}
