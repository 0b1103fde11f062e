import { availableParallelism } from "node:os";
import type { SpeculationSettings } from "#services/generator/engine/generation.js";
import { EngineLoad, type ImageRun } from "./engine-load.js";
import { samplingCost } from "./sampling-cost.js";
import { median, quantile, rounded, table } from "./table.js";
import type { BenchOptions } from "./where-time-goes.js";

type DraftWindow = SpeculationSettings["draftWindow"];

const CONCURRENCIES = [1, 2, 4, 8, 16, 32];
const WINDOWS: readonly DraftWindow[] = [1, 2, 4, 8, 16, 32, 64, "auto"];
/** Beside the bundle's own. */
const GUIDANCE_SCALES = [1, 3, 6];
/** The window that `stepCompression` is about, at the bundle's own scale. */
const REPORTED_WINDOW = 16;

/** What so many images at once give. */
interface Throughput {
  readonly concurrency: number;
  readonly imagesPerSecond: number;
  readonly stepMs: number;
  readonly bookkeepingShare: number;
  readonly firstTokenMs: { readonly p50: number; readonly p99: number };
  readonly interTokenMs: { readonly p50: number; readonly p99: number };
}

/** What a draft window brings to one image at a time. */
interface SpeculationRun {
  readonly guidanceScale: number;
  readonly draftWindow: DraftWindow;
  readonly stepCompression: number;
  readonly imageMs: number;
}

/** Keep so many images running until `rounds` times as many are made. */
async function throughput(load: EngineLoad, concurrency: number, draftWindow: DraftWindow, rounds: number): Promise<Throughput> {
  const before = load.snapshot.counters;
  const startedAt = performance.now();
  const runs: ImageRun[] = [];
  let next = 0;
  const worker = async () => {
    while (next < rounds * concurrency) runs.push(await load.run({ number: next++, draftWindow }));
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = (performance.now() - startedAt) / 1000;
  const after = load.snapshot.counters;
  const stepMs = after.stepMs - before.stepMs;
  const quantiles = (values: readonly number[]) => ({ p50: quantile(values, 0.5), p99: quantile(values, 0.99) });
  return {
    concurrency, imagesPerSecond: runs.length / seconds, stepMs: stepMs / (after.steps - before.steps),
    bookkeepingShare: 1 - (after.passMs - before.passMs) / stepMs,
    firstTokenMs: quantiles(runs.map(({ firstTokenMs }) => firstTokenMs)),
    interTokenMs: quantiles(runs.flatMap(({ interTokenMs }) => interTokenMs)),
  };
}

/** Windows take turns within each round, so that all of them see the same machine. */
async function speculation(load: EngineLoad, guidanceScale: number, rounds: number): Promise<readonly SpeculationRun[]> {
  const runs = new Map<DraftWindow, ImageRun[]>(WINDOWS.map((window) => [window, []]));
  for (let number = 0; number < rounds; number++) {
    for (const draftWindow of WINDOWS) runs.get(draftWindow)!.push(await load.run({ number, draftWindow, guidanceScale }));
  }
  return WINDOWS.map((draftWindow) => {
    const all = runs.get(draftWindow)!;
    const steps = all.reduce((sum, { timings }) => sum + timings.decodeSteps, 0);
    const tokens = all.reduce((sum, run) => sum + run.tokens.length - 1, 0);
    return {
      guidanceScale, draftWindow, stepCompression: tokens / steps,
      imageMs: median(all.map(({ timings }) => timings.prefillMs + timings.decodeMs)),
    };
  });
}

function throughputTable(rows: readonly Throughput[]): string {
  const [{ imagesPerSecond: single }] = rows;
  return table([
    ["images at once", "images/s", "times one", "ms/step", "bookkeeping %", "first token p50", "p99 ms", "token p50", "p99 ms"],
    ...rows.map((row) => [
      `${row.concurrency}`, row.imagesPerSecond, row.imagesPerSecond / single, row.stepMs, 100 * row.bookkeepingShare,
      row.firstTokenMs.p50, row.firstTokenMs.p99, row.interTokenMs.p50, row.interTokenMs.p99,
    ]),
  ]);
}

function speculationTable(rows: readonly SpeculationRun[]): string {
  const plain = (scale: number) => rows.find(({ guidanceScale, draftWindow }) => guidanceScale === scale && draftWindow === 1)!;
  return table([
    ["guidance", "draft window", "tokens a step", "ms/image", "times plain"],
    ...rows.map(({ guidanceScale, draftWindow, stepCompression, imageMs }) => [
      `${guidanceScale}`, `${draftWindow}`, stepCompression, imageMs, plain(guidanceScale).imageMs / imageMs,
    ]),
  ]);
}

/** What batching and speculation bring, and what the engine costs beside the model. */
export async function engine({ bundle, rounds, isJson }: BenchOptions): Promise<void> {
  const threads = availableParallelism();
  const say = (text: string) => void (isJson || process.stdout.write(`${text}\n`));
  const load = await EngineLoad.open(bundle, { threads, maxRunning: Math.max(...CONCURRENCIES) });
  try {
    const { name } = load.bundle.manifest;
    say(`${name}, ${threads} threads, without services; middle of ${rounds} images where one runs at a time\n`);
    await load.run({ number: 0, draftWindow: "auto" });
    const byWindow: Record<string, readonly Throughput[]> = {};
    for (const draftWindow of [1, "auto"] as const) {
      const rows: Throughput[] = [];
      for (const concurrency of CONCURRENCIES) {
        rows.push(await throughput(load, concurrency, draftWindow, Math.max(2, Math.ceil(rounds / concurrency))));
      }
      byWindow[draftWindow === 1 ? "plain" : "auto"] = rows;
      say(`draft window ${draftWindow}\n${throughputTable(rows)}`);
    }
    const speculated: SpeculationRun[] = [];
    const own = load.bundle.manifest.defaults.guidanceScale;
    for (const scale of new Set([own, ...GUIDANCE_SCALES])) speculated.push(...await speculation(load, scale, rounds));
    say(speculationTable(speculated));
    const sampling = samplingCost();
    say(table([["sampling from", "microseconds a token"], ...sampling.map((row) => [row.what, row.microseconds])]));
    const at = (rows: readonly Throughput[], concurrency: number) => rows.find((row) => row.concurrency === concurrency)!;
    const { plain, auto } = byWindow;
    const reported = speculated.find(({ guidanceScale, draftWindow }) => (
      guidanceScale === own && draftWindow === REPORTED_WINDOW
    ))!;
    process.stdout.write(`${JSON.stringify(rounded({
      bench: "engine", bundle: name, threads,
      scaling16: at(plain, 16).imagesPerSecond / at(plain, 1).imagesPerSecond,
      scaling16Auto: at(auto, 16).imagesPerSecond / at(auto, 1).imagesPerSecond,
      stepCompression: reported.stepCompression, bookkeepingShare: at(plain, 16).bookkeepingShare,
      plain, auto, speculation: speculated, sampling,
    }))}\n`);
  } finally {
    await load.close();
  }
}
