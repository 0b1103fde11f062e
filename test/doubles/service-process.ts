import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import type { ServingLine } from "#libs/rpc/serve.js";

/** How a process ended: its exit code, or the signal that killed it. */
export type Ending = number | NodeJS.Signals;

/** A service in a process of its own. */
export interface ServiceProcess {
  /** `host:port`. */
  readonly address: string;
  readonly child: ChildProcess;
  /** What it has written to stderr so far. */
  readonly stderr: string;
  readonly ended: Promise<Ending>;
  /** Send a signal and wait for the end. */
  stop(signal?: NodeJS.Signals): Promise<Ending>;
}

/** How a process is started. */
export interface ProcessOptions {
  readonly args?: readonly string[];
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Start a module as a process and wait for its serving line. It is killed when the test ends.
 * @param module URL of the compiled module.
 * @throws Error with its stderr if it ends before it serves.
 */
export async function startProcess(t: TestContext, module: URL, options: ProcessOptions = {}): Promise<ServiceProcess> {
  const { child, ended, stderr } = launch(t, module, options);
  const address = await Promise.race([
    servingLine(child).then((line) => line.address),
    ended.then((ending) => { throw new Error(`the process ended by ${ending}: ${stderr()}`); }),
  ]);
  return {
    address,
    child,
    ended,
    get stderr() {
      return stderr();
    },
    stop(signal = "SIGTERM") {
      child.kill(signal);
      return ended;
    },
  };
}

/** Start a module as a process and wait for its end. */
export async function runProcess(
  t: TestContext, module: URL, options: ProcessOptions = {},
): Promise<{ readonly ending: Ending; readonly stderr: string }> {
  const { ended, stderr } = launch(t, module, options);
  const ending = await ended;
  return { ending, stderr: stderr() };
}

function launch(t: TestContext, module: URL, { args = [], env = {} }: ProcessOptions) {
  const child = spawn(process.execPath, [module.pathname, ...args], {
    env: { ...process.env, TESSERA_LOG_LEVEL: "error", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.after(() => child.kill("SIGKILL"));
  let text = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => { text += chunk; });
  const ended = new Promise<Ending>((resolve) => {
    child.on("close", (code, signal) => resolve(code ?? signal ?? -1));
  });
  return { child, ended, stderr: () => text };
}

function servingLine(child: ChildProcess): Promise<ServingLine> {
  return new Promise((resolve) => {
    createInterface({ input: child.stdout! }).once("line", (line) => resolve(JSON.parse(line) as ServingLine));
  });
}
