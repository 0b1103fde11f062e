import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Env } from "#libs/config/env.js";

/** A command of `libs/cli` at work. */
export interface RunningCommand {
  readonly pid: number;
  /** Settles once stderr has shown a text. Rejects if the command ends before. */
  shown(text: string): Promise<void>;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<CommandOutput>;
}

/** What a command left. */
export interface CommandOutput {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Start a command as its npm script does. @param name e.g. `generate`. */
export function startCommand(name: string, args: readonly string[], options: { readonly env?: Env } = {}): RunningCommand {
  const main = fileURLToPath(new URL(`../../libs/cli/${name}.js`, import.meta.url));
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, ...options.env }, stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => (output[stream] += text));
  }
  const ended = once(child, "close").then(([code]) => ({ code, ...output }) as CommandOutput);
  return {
    pid: child.pid!,
    shown: (text) => untilShown(child, () => output.stderr.includes(text), ended),
    kill: (signal) => void child.kill(signal),
    ended,
  };
}

/** Run a command to its end. */
export function runCommandLine(name: string, args: readonly string[], options: { readonly env?: Env } = {}): Promise<CommandOutput> {
  return startCommand(name, args, options).ended;
}

/** The processes whose parent is `pid`. Reads /proc, so Linux only. */
export function childrenOf(pid: number): readonly number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  return pids.filter((candidate) => statOf(candidate)?.parent === pid);
}

/** Whether a process is at work; one that has ended but was not waited for is not. */
export function isAlive(pid: number): boolean {
  const state = statOf(pid)?.state;
  return state !== undefined && state !== "Z" && state !== "X";
}

function statOf(pid: number): { readonly state: string; readonly parent: number } | undefined {
  try {
    // The name, in brackets, may hold anything; what follows it are state and parent.
    const [state, parent] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
    return { state, parent: Number(parent) };
  } catch {
    return undefined;
  }
}

async function untilShown(child: ChildProcess, isShown: () => boolean, ended: Promise<CommandOutput>): Promise<void> {
  while (!isShown()) {
    const end = await Promise.race([once(child.stderr!, "data").then(() => undefined), ended]);
    if (end !== undefined && !isShown()) throw new Error(`the command ended with ${end.code}: ${end.stderr}`);
  }
}
