import { availableParallelism } from "node:os";
import type { SpeculationSettings } from "#services/generator/engine/generation.js";
import { EngineLoad, type ImageRun } from "./engine-load.js";
import { samplingCost } from "./sampling-cost.js";
import { median, quantile, rounded, table } from "./table.js";
import type { BenchOptions } from "./where-time-goes.js";

type DraftWindow = SpeculationSettings["draftWindow"];

const CONCURRENCIES = [1, 2, 4, 8, 16, 32];
const WINDOWS: readonly DraftWindow[] = [1, 2, 4, 8, 16, 32, 64, "auto"];
/** How often either window's turn comes where many images run at once. */
const TURNS = 8;
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

/** What went on while a number of images were made. */
interface Burst {
  readonly runs: readonly ImageRun[];
  readonly seconds: number;
  readonly steps: number;
  readonly stepMs: number;
  readonly passMs: number;
}

/** Keep so many images running until `rounds` times as many are made. */
async function burst(load: EngineLoad, concurrency: number, draftWindow: DraftWindow, rounds: number): Promise<Burst> {
  const before = load.snapshot.counters;
  const startedAt = performance.now();
  const runs: ImageRun[] = [];
  let next = 0;
  const worker = async () => {
    while (next < rounds * concurrency) runs.push(await load.run({ number: next++, draftWindow }));
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const seconds = (performance.now() - startedAt) / 1000;
  const { steps, stepMs, passMs } = load.snapshot.counters;
  return { runs, seconds, steps: steps - before.steps, stepMs: stepMs - before.stepMs, passMs: passMs - before.passMs };
}

function throughput(concurrency: number, bursts: readonly Burst[]): Throughput {
  const sum = (of: (burst: Burst) => number) => bursts.reduce((total, burst) => total + of(burst), 0);
  const quantiles = (values: readonly number[]) => ({ p50: quantile(values, 0.5), p99: quantile(values, 0.99) });
  const runs = bursts.flatMap((burst) => burst.runs);
  return {
    concurrency, imagesPerSecond: runs.length / sum(({ seconds }) => seconds),
    stepMs: sum(({ stepMs }) => stepMs) / sum(({ steps }) => steps),
    bookkeepingShare: 1 - sum(({ passMs }) => passMs) / sum(({ stepMs }) => stepMs),
    firstTokenMs: quantiles(runs.map(({ firstTokenMs }) => firstTokenMs)),
    interTokenMs: quantiles(runs.flatMap(({ interTokenMs }) => interTokenMs)),
  };
}

/** Without drafts and with as many as the engine likes. */
interface Compared {
  readonly plain: Throughput;
  readonly auto: Throughput;
  /** Images a second with drafts over those without, the middle of all turns. */
  readonly autoOverPlain: number;
}

/** Both in turns, so that both see the same machine. */
async function compare(load: EngineLoad, concurrency: number, rounds: number): Promise<Compared> {
  const [plain, auto]: Burst[][] = [[], []];
  for (let turn = 0; turn < TURNS; turn++) {
    plain.push(await burst(load, concurrency, 1, rounds));
    auto.push(await burst(load, concurrency, "auto", rounds));
  }
  const speed = ({ runs, seconds }: Burst) => runs.length / seconds;
  return {
    plain: throughput(concurrency, plain), auto: throughput(concurrency, auto),
    autoOverPlain: median(auto.map((burst, turn) => speed(burst) / speed(plain[turn]))),
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

function throughputTable(rows: readonly Throughput[], overPlain: readonly number[]): string {
  const [{ imagesPerSecond: single }] = rows;
  return table([
    [
      "images at once", "images/s", "times one", "over plain", "ms/step", "bookkeeping %", "first token p50", "p99 ms", "token p50",
      "p99 ms",
    ],
    ...rows.map((row, index) => [
      `${row.concurrency}`, row.imagesPerSecond, row.imagesPerSecond / single, overPlain[index].toFixed(2),
      row.stepMs, 100 * row.bookkeepingShare, row.firstTokenMs.p50, row.firstTokenMs.p99, row.interTokenMs.p50, row.interTokenMs.p99,
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
    const compared: Compared[] = [];
    for (const concurrency of CONCURRENCIES) {
      compared.push(await compare(load, concurrency, Math.max(2, Math.ceil(rounds / concurrency / TURNS))));
    }
    const [plain, auto] = [compared.map((row) => row.plain), compared.map((row) => row.auto)];
    const autoOverPlain = compared.map((row) => row.autoOverPlain);
    say(`draft window 1, in turns with\n${throughputTable(plain, plain.map(() => 1))}`);
    say(`draft window auto\n${throughputTable(auto, autoOverPlain)}`);
    const speculated: SpeculationRun[] = [];
    const own = load.bundle.manifest.defaults.guidanceScale;
    for (const scale of new Set([own, ...GUIDANCE_SCALES])) speculated.push(...await speculation(load, scale, rounds));
    say(speculationTable(speculated));
    const sampling = samplingCost();
    say(table([["sampling from", "microseconds a token"], ...sampling.map((row) => [row.what, row.microseconds])]));
    const at = (rows: readonly Throughput[], concurrency: number) => rows.find((row) => row.concurrency === concurrency)!;
    const reported = speculated.find(({ guidanceScale, draftWindow }) => (
      guidanceScale === own && draftWindow === REPORTED_WINDOW
    ))!;
    process.stdout.write(`${JSON.stringify(rounded({
      bench: "engine", bundle: name, threads,
      scaling16: at(plain, 16).imagesPerSecond / at(plain, 1).imagesPerSecond,
      scaling16Auto: at(auto, 16).imagesPerSecond / at(auto, 1).imagesPerSecond,
      autoOverPlain, stepCompression: reported.stepCompression, bookkeepingShare: at(plain, 16).bookkeepingShare,
      plain, auto, speculation: speculated, sampling,
    }))}\n`);
  } finally {
    await load.close();
  }
}
