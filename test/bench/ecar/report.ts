import type { Difference, Interval } from "../geneval/score.js";
import { rounded, table } from "../table.js";
import type { EcarCost, Gain } from "./costs.js";
import type { EcarOptions } from "./options.js";

/** How one contender did. */
export interface Run {
  readonly name: string;
  /** Networks run one after the other on the way to one image. */
  readonly passes: number;
  /** Multiplications for one image; undefined where they are not counted. */
  readonly macs: number | undefined;
  /** For one image alone, and for each of eight made at once; codec apart. */
  readonly seconds: number;
  readonly batchSeconds: number;
  readonly codecSeconds: number;
  /** 0 .. 1; undefined if nothing was judged. */
  readonly score: number | undefined;
  /** Where the score lies when prompts are drawn again, and how far it is above the first E-CAR's on the same prompts. */
  readonly interval?: Interval;
  readonly overEcar?: Difference;
}

/** The baseline at some number of evaluations, and what E-CAR's gain over it comes of. */
export interface DitRun extends Run {
  readonly gain: Gain;
}

/** All that was measured. */
export interface EcarReport {
  readonly model: string;
  readonly ditGuidanceScale: number;
  readonly threads: number;
  /** Pictures that each was judged by. */
  readonly images: number;
  readonly ecars: readonly Run[];
  /** The one of them that is compared with the baseline, and its guidance scale and multiplications. */
  readonly ecar: Run;
  readonly guidanceScale: number;
  readonly cost: EcarCost;
  readonly dits: readonly DitRun[];
  readonly discrete: Run;
}

/** E-CAR against one run of the baseline: how many times as much that takes. */
export interface Comparison {
  readonly against: string;
  readonly macRatio: number;
  readonly timeRatio: number;
  readonly batchTimeRatio: number;
}

/** Scores that are this close count as equal. */
const EQUAL = 0.02;

/** The baseline at its best score, of several the cheapest; without scores at its most evaluations. */
export function bestOf<R extends Run>(dits: readonly R[]): R {
  const byCost = dits.toSorted((a, b) => a.passes - b.passes);
  const best = Math.max(...byCost.map(({ score }) => score ?? -1));
  return byCost.find(({ score }) => score === best) ?? byCost.at(-1)!;
}

/** The cheapest E-CAR that is as good as that; the best if none is, and without scores the first. */
export function cheapestOf(ecars: readonly Run[], best: Run): Run {
  if (best.score === undefined) return ecars[0]!;
  return equalOf(best, ecars) ?? ecars.toSorted((a, b) => b.score! - a.score!)[0]!;
}

/** The cheapest run that is as good as another; undefined if none is, or nothing was judged. */
export function equalOf<R extends Run>({ score }: Run, runs: readonly R[]): R | undefined {
  if (score === undefined) return undefined;
  return runs.toSorted((a, b) => a.macs! - b.macs!).find((run) => run.score !== undefined && run.score >= score - EQUAL);
}

function comparison(ecar: Run, dit: Run): Comparison {
  return {
    against: dit.name, macRatio: dit.macs! / ecar.macs!, timeRatio: dit.seconds / ecar.seconds, batchTimeRatio: dit.batchSeconds / ecar.batchSeconds,
  };
}

/** A table for people, unless only JSON is wanted, and one line of JSON. */
export function printReport(report: EcarReport, { isJson }: Pick<EcarOptions, "isJson">): void {
  const { ecars, ecar, dits, discrete, cost } = report;
  const best = bestOf(dits);
  const equal = equalOf(ecar, dits);
  if (!isJson) {
    process.stdout.write(`${report.model}; guidance of the baseline ${report.ditGuidanceScale}, \
${report.threads} thread${report.threads === 1 ? "" : "s"}, codec apart (${ecar.codecSeconds.toPrecision(3)} s an image)

${table([["", "passes", "GMAC", "s alone", "s of eight", "score", "95 % of resamples", "over E-CAR, likewise"], ...[...ecars, ...dits, discrete].map(cellsOf)])}
${ecar.name}: of its multiplications the transformer has ${(100 * cost.transformer / cost.total).toFixed(0)} %
${table([
      ["the gain over", "in all", "fewer evaluations", "no guidance", "small head", "coarse stages"],
      ...dits.map(({ name, macs, gain }) => [
        name, ...[macs! / ecar.macs!, gain.fewerEvaluations, gain.noGuidance, gain.smallHead, gain.coarseStages].map(times),
      ]),
    ])}
`);
  }
  process.stdout.write(`${JSON.stringify(rounded({
    bench: "ecar", ...report, ...comparison(ecar, best), score: ecar.score ?? null, ditScore: best.score ?? null,
    equal: equal === undefined ? null : comparison(ecar, equal),
  }))}\n`);
}

function cellsOf({ name, passes, macs, seconds, batchSeconds, score, interval, overEcar }: Run): string[] {
  const giga = macs === undefined ? "" : (macs / 1e9).toPrecision(3);
  const between = (some: Interval | undefined) => some?.map((value) => value.toFixed(3)).join(" to ") ?? "";
  return [
    name, String(passes), giga, seconds.toPrecision(3), batchSeconds.toPrecision(3), score?.toFixed(3) ?? "", between(interval),
    between(overEcar?.interval),
  ];
}

function times(ratio: number): string {
  return `${ratio.toFixed(2)} x`;
}
