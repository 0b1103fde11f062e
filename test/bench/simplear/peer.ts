import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { notFound } from "#libs/errors/errors.js";
import type { StepTime } from "../step-time.js";

/** What a peer is asked to run: guided steps, that is two sequences with one new token each, over its whole vocabulary. */
export interface PeerLoad {
  readonly threads: number;
  readonly pasts: readonly number[];
  /** Steps timed at each of them. */
  readonly steps: number;
}

/** What a peer took. */
export interface PeerCost {
  readonly loadMs: number;
  readonly steps: readonly StepTime[];
  readonly peakBytes: number;
}

/** Either a cost or why there is none. */
export type PeerOutcome = { readonly name: string } & ({ readonly cost: PeerCost } | { readonly missing: string });

/** Run a peer in a process of its own, whose last line of output is its cost. A peer that fails is missing, with its last words. */
export async function runPeer(name: string, command: string, args: readonly string[]): Promise<PeerOutcome> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  const [output, errors, [code]] = await Promise.all([
    text(child.stdout), text(child.stderr), once(child, "exit") as Promise<[number | null]>,
  ]);
  if (code === 0) return { name, cost: JSON.parse(output.trim().split("\n").at(-1)!) as PeerCost };
  return { name, missing: errors.trim().split("\n").at(-1) ?? `ended with code ${code}` };
}

/** A package that this project does not depend on, from `folder/node_modules`. @throws not-found if it is not there. */
export async function importPeer<T>(folder: string, name: string): Promise<T> {
  let path: string;
  try {
    path = createRequire(pathToFileURL(join(resolve(folder), "package.json"))).resolve(name);
  } catch {
    throw notFound(`${name} is not installed in ${folder}`);
  }
  return (await import(pathToFileURL(path).href)) as T;
}

/** Say what a peer took, as the last line of its process's output. */
export function tellCost(loadMs: number, steps: readonly StepTime[]): void {
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  process.stdout.write(`\n${JSON.stringify({ loadMs, steps, peakBytes } satisfies PeerCost)}\n`);
}
