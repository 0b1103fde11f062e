import { intEnv, type Env } from "#libs/config/env.js";
import { AppError, invalidRequest } from "#libs/errors/errors.js";
import { freePorts } from "./free-ports.js";
import { SERVICE_NAMES, ServiceProcess, type ServiceName } from "./service-process.js";

/** The three services as processes that know each other. Whoever started it must stop it. */
export type Stack = Readonly<Record<ServiceName, ServiceProcess>>;

/** `host:port` of each service. */
export type Addresses = Readonly<Record<ServiceName, string>>;

/** How the three services are started. */
export interface StackOptions {
  /** Free loopback ports if left out. */
  readonly addresses?: Addresses;
  /** Added to this process's environment, for each of them. */
  readonly env?: Env;
  /** Pass their logs on to stderr. */
  readonly showLog?: boolean;
  readonly signal?: AbortSignal;
}

/** How often other ports are tried if a free one was taken before its service listened on it. */
const MAX_ATTEMPTS = 3;

/** The tokenizer's; the others follow. */
function firstPrometheusPort(): number {
  return intEnv(process.env, "OTEL_EXPORTER_PROMETHEUS_PORT", { min: 1, max: 65_533, default: 9464 });
}

/**
 * Start all three at once and wait until they serve. If one cannot start, none is left behind.
 * @throws AppError of the first that cannot start.
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  const health = options.env?.["TESSERA_HEALTH_ADDRESS"] ?? process.env["TESSERA_HEALTH_ADDRESS"];
  if (health) throw invalidRequest("TESSERA_HEALTH_ADDRESS", "left out: three services cannot share one address", health);
  if (options.addresses !== undefined) return startAt(options.addresses, options);
  for (let attempt = 1; ; attempt++) {
    try {
      return await startAt(await freeAddresses(), options);
    } catch (error) {
      const isPortTaken = AppError.from(error).message.includes("cannot listen on");
      if (!isPortTaken || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

/** Stop them, the one that calls the others first, so that open calls can come to their end. */
export async function stopStack(stack: Stack, graceMs: number): Promise<void> {
  for (const name of SERVICE_NAMES.toReversed()) await stack[name].stop(graceMs);
}

/** Settles as soon as one of the processes ends, with how and why. Never rejects. */
export function firstEnd(stack: Stack): Promise<AppError> {
  return Promise.race(SERVICE_NAMES.map((name) => stack[name].ended));
}

async function startAt(addresses: Addresses, { env, showLog = false, signal }: StackOptions): Promise<Stack> {
  const failure = new AbortController();
  const giveUp = signal === undefined ? failure.signal : AbortSignal.any([signal, failure.signal]);
  const starts = SERVICE_NAMES.map((name) => ServiceProcess.start(name, {
    env: { ...env, ...serviceEnv(name, addresses) }, showLog, signal: giveUp,
  }));
  try {
    const [tokenizer, generator, decoder] = await Promise.all(starts);
    return { tokenizer, generator, decoder };
  } catch (error) {
    failure.abort();
    const outcomes = await Promise.allSettled(starts);
    await Promise.all(outcomes.map((outcome) => outcome.status === "fulfilled" && outcome.value.stop(0)));
    throw error;
  }
}

/** Who listens where and who calls whom; each has a Prometheus port of its own, should metrics be asked for. */
function serviceEnv(name: ServiceName, addresses: Addresses): Env {
  return {
    TESSERA_ADDRESS: addresses[name],
    TESSERA_TOKENIZER_ADDRESS: addresses.tokenizer,
    TESSERA_GENERATOR_ADDRESS: addresses.generator,
    OTEL_EXPORTER_PROMETHEUS_PORT: String(firstPrometheusPort() + SERVICE_NAMES.indexOf(name)),
  };
}

async function freeAddresses(): Promise<Addresses> {
  const [tokenizer, generator, decoder] = (await freePorts(SERVICE_NAMES.length)).map((port) => `127.0.0.1:${port}`);
  return { tokenizer, generator, decoder };
}
