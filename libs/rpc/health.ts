import { setTimeout as sleep } from "node:timers/promises";
import { HealthDefinition } from "nice-grpc-server-health";
import { AppError } from "#libs/errors/errors.js";
import { openClient } from "./client.js";
import { HEALTH_POLL_MS, HEALTH_TIMEOUT_MS } from "./limits.js";

/** What a service says of itself. */
export type Health = "serving" | "not-serving";

/** Asks one service again and again over one connection. */
export interface HealthProbe {
  /**
   * Ask once.
   * @throws AppError `not-ready` if the service cannot be reached, `not-found` if the server has no such service.
   */
  check(options?: { readonly signal?: AbortSignal }): Promise<Health>;
  close(): void;
}

const SERVING = 1;

/**
 * A probe for grpc.health.v1. Close it after use.
 * @param service full name, e.g. `tessera.v1.TokenizerService`; empty for the server as a whole.
 */
export function openHealthProbe(address: string, service = ""): HealthProbe {
  const { client, close } = openClient(HealthDefinition, address);
  return {
    async check(options = {}) {
      const { status } = await client.check({ service }, { ...options, timeoutMs: HEALTH_TIMEOUT_MS });
      return status === SERVING ? "serving" : "not-serving";
    },
    close,
  };
}

/**
 * Settles as soon as the server at an address serves.
 * @throws AppError by the signal's reason when it fires first: there is no other limit.
 */
export async function waitForServing(address: string, options: { readonly signal: AbortSignal }): Promise<void> {
  const { signal } = options;
  const probe = openHealthProbe(address);
  try {
    while (await probe.check({ signal }).catch(unreachable) !== "serving") {
      await sleep(HEALTH_POLL_MS, undefined, { signal });
    }
  } catch (error) {
    throw signal.aborted ? AppError.from(signal.reason) : error;
  } finally {
    probe.close();
  }
}

function unreachable(error: unknown): undefined {
  const { kind } = AppError.from(error);
  if (kind !== "not-ready" && kind !== "deadline-exceeded") throw error;
}
