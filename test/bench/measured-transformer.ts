import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { invariant } from "#libs/errors/errors.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { timeSteps, type StepTime } from "./step-time.js";

/** What is measured of a bundle's transformer. */
export interface TransformerLoad {
  /** Past positions at which guided steps are timed; none: only loading is. */
  readonly pasts: readonly number[];
  /** Steps timed at each of them. */
  readonly steps: number;
  /** Length of the prompts that are prefilled; default 32. */
  readonly promptLength?: number;
  readonly threads: number;
}

/** What a transformer costs in a process of its own. */
export interface TransformerCost {
  /** The graph and the weights beside it. */
  readonly fileBytes: number;
  readonly loadMs: number;
  /** The same with its weights mapped from the file. */
  readonly mappedLoadMs: number;
  /** Both prompts of a guided pair. */
  readonly prefillMs: number;
  readonly steps: readonly StepTime[];
  /** Memory in use after the steps, mapped files included; and the most there ever was. */
  readonly residentBytes: number;
  readonly peakBytes: number;
}

/** Load and run the transformer of the bundle in `folder` in a process of its own, so that its memory is nobody else's. */
export async function measureTransformer(folder: string, load: TransformerLoad): Promise<TransformerCost> {
  const args = [fileURLToPath(import.meta.url), folder, JSON.stringify(load)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "exit") as Promise<[number | null]>]);
  if (code !== 0) throw invariant(`measuring ${folder} ended with code ${code}`);
  return JSON.parse(output) as TransformerCost;
}

async function measure(folder: string, { pasts, steps, promptLength = 32, threads }: TransformerLoad): Promise<TransformerCost> {
  const { manifest, path } = await openTokenBundle(folder, { verify: false });
  const { file } = manifest.transformer;
  const fileBytes = [file, `${file}.data`].reduce((sum, name) => sum + (manifest.files[name]?.bytes ?? 0), 0);
  const loadStart = performance.now();
  // As other engines do where they are not told otherwise.
  const runner = await TransformerRunner.open(path(file), manifest.transformer, { threads, spin: true });
  const loadMs = performance.now() - loadStart;
  const { tokenOffset, codebookSize } = manifest.image;
  const prompt = Array.from({ length: promptLength }, (_, i) => (i * 7919) % tokenOffset);
  runner.reset(2, Math.max(promptLength, ...pasts.map((past) => past + 1)));
  const prefillStart = performance.now();
  for (const firstRow of [0, 1]) await runner.run({ firstRow, ids: [prompt], logitsFrom: promptLength - 1 });
  const prefillMs = performance.now() - prefillStart;
  const times: StepTime[] = [];
  for (const past of pasts) {
    runner.reset(2, past + 1);
    times.push(await timeSteps(past, steps, (step) => {
      for (const row of [0, 1]) runner.resize(row, past);
      const id = tokenOffset + ((step * 104729) % codebookSize);
      return runner.run({ ids: [[id], [id]] });
    }));
  }
  const used = await memory();
  await runner.close();
  const mappedStart = performance.now();
  const mapped = await TransformerRunner.open(path(file), manifest.transformer, { threads, mapWeights: true });
  const mappedLoadMs = performance.now() - mappedStart;
  await mapped.close();
  return { fileBytes, loadMs, mappedLoadMs, prefillMs, steps: times, ...used };
}

/** Of this process, in bytes. */
async function memory(): Promise<{ readonly residentBytes: number; readonly peakBytes: number }> {
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  const kilobytes = (name: string): number => 1024 * Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? 0);
  return { residentBytes: kilobytes("VmRSS") || process.memoryUsage().rss, peakBytes: kilobytes("VmHWM") };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder, load] = process.argv;
  process.stdout.write(JSON.stringify(await measure(folder, JSON.parse(load) as TransformerLoad)));
}
