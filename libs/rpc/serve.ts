import { intEnv, type Env } from "#libs/config/env.js";
import { AppError } from "#libs/errors/errors.js";
import { errorFields, log, nameLog } from "#libs/telemetry/log.js";
import { startTelemetry } from "#libs/telemetry/telemetry.js";
import { DRAIN_MS } from "./limits.js";
import type { RunningService } from "./service.js";

/** What a service process prints on stdout, as one line of JSON, when it serves: whoever started it waits for that. */
export interface ServingLine {
  readonly service: string;
  /** `host:port` with the real port. */
  readonly address: string;
}

/**
 * Be the process of one service until SIGTERM or SIGINT; does not return. Exits 0 after a drain, or at once at a second
 * signal; exits 1, with one line on stderr, if the service cannot start. A parent with an IPC channel takes it along.
 * @param name e.g. `tokenizer`.
 * @param start read the configuration and start; `signal` gives up when a stop comes first.
 */
export async function serve(
  name: string, start: (options: { readonly signal: AbortSignal }) => Promise<RunningService>,
): Promise<never> {
  nameLog(name);
  // Whoever read our lines may be gone; that must not end the calls.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  leaveWithParent();
  const stopSignal = stopOnSignals();
  const telemetry = await startTelemetry(`tessera-${name}`).catch((error: unknown) => failToStart(name, error));
  const startAndRead = async () => ({ drainMs: readDrainMs(process.env), service: await start({ signal: stopSignal }) });
  const { service, drainMs } = await startAndRead().catch((error: unknown) => {
    if (stopSignal.aborted) process.exit(0);
    return failToStart(name, error);
  });
  const line: ServingLine = { service: name, address: service.address };
  process.stdout.write(`${JSON.stringify(line)}\n`);
  log.info("serving", { address: service.address });

  const failure = await Promise.race([fired(stopSignal), service.failed]);
  if (failure === undefined) log.info("draining");
  else log.error("failed", errorFields(failure));
  await service.stop(failure === undefined ? drainMs : 0);
  await telemetry.stop();
  log.info("stopped");
  process.exit(failure === undefined ? 0 : 1);
}

/** How long open calls may go on after a stop, in milliseconds. @throws AppError `invalid-request` naming the variable. */
export function readDrainMs(env: Env): number {
  return intEnv(env, "TESSERA_DRAIN_MS", { min: 0, max: 3_600_000, default: DRAIN_MS });
}

/** If another process of ours started this one over a channel, end as soon as it is gone, however it went. */
function leaveWithParent(): void {
  // Not `process.exit`: inside a pass of ONNX Runtime it would abort with a core dump.
  const leave = () => process.kill(process.pid, "SIGKILL");
  // Only a process with a channel knows whether it is connected; the parent may be gone before this line.
  if (process.connected === false) leave();
  process.on("disconnect", leave);
}

/** Fires at the first SIGTERM or SIGINT. The second ends the process as if nobody had listened for it. */
function stopOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) {
        process.removeAllListeners(name);
        process.kill(process.pid, name);
      }
      controller.abort();
    });
  }
  return controller.signal;
}

function failToStart(name: string, error: unknown): never {
  const { kind, message } = AppError.from(error);
  process.stderr.write(`${name}: ${message.split("\n")[0]}\n`);
  if (kind === "internal") log.debug("cannot start", errorFields(error));
  process.exit(1);
}

function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
