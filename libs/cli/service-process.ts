import { spawn, type ChildProcess } from "node:child_process";
import { on, once } from "node:events";
import { createInterface, type Interface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { settlesWithin } from "#libs/async/within.js";
import type { Env } from "#libs/config/env.js";
import { notReady, type AppError } from "#libs/errors/errors.js";
import type { ServingLine } from "#libs/rpc/serve.js";

/** The services, in the order in which they need each other. */
export const SERVICE_NAMES = ["tokenizer", "generator", "decoder"] as const;

/** One of `SERVICE_NAMES`. */
export type ServiceName = (typeof SERVICE_NAMES)[number];

/** How a service process is started. */
export interface ServiceProcessOptions {
  /** Added to this process's own environment. */
  readonly env: Env;
  /** A command that runs the one that follows it in another surrounding, such as `ip netns exec NAME`. */
  readonly launcher?: readonly string[];
  /** Pass the service's log on to stderr. Its last lines are kept either way, for errors. */
  readonly showLog?: boolean;
  /** Gives up; the process is gone before `start` throws the reason. */
  readonly signal?: AbortSignal;
}

/** How long a service may take to load: a large bundle from a cold disk. */
const START_TIMEOUT_MS = 120_000;

/** How many lines of a service's log an error shows. */
const LOG_TAIL_LINES = 8;

/** The file that a service's process runs. */
export function serviceMain(name: ServiceName): string {
  return fileURLToPath(new URL(`../../services/${name}/main.js`, import.meta.url));
}

/** The address that a service's first `ServingLine` tells; other lines, such as a library's, are passed over. */
async function addressIn(lines: Interface, signal: AbortSignal): Promise<string> {
  for await (const [line] of on(lines, "line", { signal }) as AsyncIterableIterator<[string]>) {
    if (line.startsWith("{")) return (JSON.parse(line) as ServingLine).address;
  }
  return "";
}

/**
 * One service in a process of its own, which never outlives this one: it is killed when this process exits, and leaves
 * by itself when this process is killed, because the channel between them closes.
 */
export class ServiceProcess {
  readonly name: ServiceName;
  /** Settles with how and why the process ended. Never rejects. */
  readonly ended: Promise<AppError>;
  readonly #child: ChildProcess;
  readonly #logTail: string[] = [];
  #address = "";

  /**
   * Start a service and wait until it serves.
   * @throws AppError `not-ready` with the last lines of its log if it ends or hangs before.
   */
  static async start(name: ServiceName, options: ServiceProcessOptions): Promise<ServiceProcess> {
    const started = new ServiceProcess(name, options);
    try {
      started.#address = await started.#serving(options.signal);
      return started;
    } catch (error) {
      started.kill("SIGKILL");
      await started.ended;
      throw error;
    }
  }

  private constructor(name: ServiceName, { env, launcher = [], showLog = false }: ServiceProcessOptions) {
    this.name = name;
    const [command, ...args] = [...launcher, process.execPath, serviceMain(name)];
    this.#child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
      // Out of the terminal's reach: Ctrl-C comes to this process alone, which stops the services in order.
      detached: true,
    });
    createInterface(this.#child.stderr as Readable).on("line", (line) => this.#keep(line, showLog));
    const killNow = () => this.kill("SIGKILL");
    process.once("exit", killNow);
    this.ended = this.#end().finally(() => process.off("exit", killNow));
  }

  /** `host:port` with the real port. */
  get address(): string {
    return this.#address;
  }

  /** The process's id. */
  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Send a signal; does nothing once the process has ended. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Let it drain for at most `graceMs`, then kill it. Settles when it is gone. */
  async stop(graceMs: number): Promise<void> {
    this.kill("SIGTERM");
    if (!await settlesWithin(this.ended, graceMs)) this.kill("SIGKILL");
    await this.ended;
  }

  async #serving(signal: AbortSignal | undefined): Promise<string> {
    const timeout = AbortSignal.timeout(START_TIMEOUT_MS);
    const giveUp = signal === undefined ? timeout : AbortSignal.any([signal, timeout]);
    const lines = createInterface(this.#child.stdout as Readable);
    const endedEarly = this.ended.then((error) => {
      throw error;
    });
    try {
      return await Promise.race([addressIn(lines, giveUp), endedEarly]);
    } catch (error) {
      signal?.throwIfAborted();
      if (timeout.aborted) throw notReady(`the ${this.name} did not start in ${START_TIMEOUT_MS / 1000} s${this.#tail()}`);
      throw error;
    }
  }

  async #end(): Promise<AppError> {
    try {
      // "close" comes after the last line of the log, "exit" may come before.
      const [code, signal] = await once(this.#child, "close") as [number | null, NodeJS.Signals | null];
      return notReady(`the ${this.name} ended with ${signal ?? `exit code ${code}`}${this.#tail()}`);
    } catch (error) {
      return notReady(`the ${this.name} could not be run: ${(error as Error).message}`, error);
    }
  }

  #keep(line: string, showLog: boolean): void {
    if (showLog) process.stderr.write(`${line}\n`);
    this.#logTail.push(line);
    if (this.#logTail.length > LOG_TAIL_LINES) this.#logTail.shift();
  }

  #tail(): string {
    return this.#logTail.map((line) => `\n  ${line}`).join("");
  }
}
