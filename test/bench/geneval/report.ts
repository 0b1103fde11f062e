import { join } from "node:path";
import { writeOutFile } from "#libs/cli/out-files.js";
import { rounded, table } from "../table.js";
import type { CodecQuality } from "./codec-quality.js";
import type { Quality } from "./feature-network.js";
import type { Judgement } from "./jury.js";
import type { GenevalOptions } from "./options.js";
import type { Picture } from "./picture.js";
import { TASKS, type GenevalTask, type PromptedScene } from "./prompts.js";
import { differenceOf, type Difference } from "./score.js";
import { verdictSheet } from "./verdict-sheet.js";

/** What was found out about one model, or about whatever was judged in place of one. */
export interface ModelReport {
  readonly name: string;
  readonly judgement: Judgement;
  /** How much its codec alone loses. */
  readonly codec?: CodecQuality["numbers"];
  /** How its pictures lie among renders. */
  readonly quality?: Quality;
}

/** One run of the benchmark. */
export interface GenevalReport {
  readonly suite: string;
  /** Pictures of each prompt. */
  readonly images?: number;
  readonly settings?: object;
  /** What the run was about; each after the first is compared with the one before. */
  readonly models: readonly ModelReport[];
  /** What to compare them with. */
  readonly anchors?: Readonly<Record<string, Judgement>>;
}

/** Tables for people, unless only JSON is wanted, and one line of JSON. */
export function printReport(options: GenevalOptions, report: GenevalReport): void {
  if (!options.isJson) {
    process.stdout.write(`${report.suite} suite, share of correct pictures in percent, each with half its 95 % interval\n\n`);
    process.stdout.write(table([
      ["", "mean", ...TASKS, "template", "both", "kappa"],
      ...report.models.map(({ name, judgement }) => [name, ...cellsOf(judgement)]),
      ...Object.entries(report.anchors ?? {}).map(([name, judgement]) => [name, ...cellsOf(judgement)]),
    ]));
    process.stdout.write(`\n${differenceLines(report)}${report.models.map(numbersOf).join("")}`);
  }
  process.stdout.write(`${JSON.stringify(summaryOf(report))}\n`);
}

/** Keep the report of its first model with every verdict, and a sheet of pictures framed by verdict. */
export async function writeReport(
  folder: string, report: GenevalReport,
  { prompts, picturesOf }: { readonly prompts: readonly PromptedScene[]; readonly picturesOf: (place: number) => Promise<readonly Picture[]> },
): Promise<void> {
  const { verdicts } = report.models[0]!.judgement;
  const rows = prompts.map(({ prompt }, place) => ({ ...prompt, correct: verdicts[place] }));
  const json = { ...summaryOf(report), prompts: rows };
  await writeOutFile(join(folder, "report.json"), Buffer.from(`${JSON.stringify(json, undefined, 1)}\n`));
  await writeOutFile(join(folder, "sheet.png"), await verdictSheet(prompts, verdicts, picturesOf));
}

const percent = (value: number) => (100 * value).toFixed(1);

function cellsOf({ scores, template, both, kappa }: Judgement): string[] {
  const cell = (score: number, [low, high]: readonly [number, number]) => `${percent(score)} ±${percent((high - low) / 2)}`;
  const task = (name: GenevalTask) => (scores[name] === undefined ? "" : cell(scores[name], scores.intervals[name]!));
  return [
    cell(scores.overall, scores.interval), ...TASKS.map(task), percent(template.overall), percent(both.overall), kappa?.toFixed(2) ?? "",
  ];
}

/** By how much each model after the first differs from the one before, by their names. */
function differencesOf({ models }: GenevalReport): Record<string, Difference> {
  const pairs = models.slice(1).map((model, at) => [models[at]!, model] as const);
  return Object.fromEntries(pairs.map(([before, after]) => (
    [`${after.name} - ${before.name}`, differenceOf(before.judgement.results, after.judgement.results)]
  )));
}

function differenceLines(report: GenevalReport): string {
  const line = ([name, { overall, interval: [low, high] }]: readonly [string, Difference]) => (
    `${name}: ${percent(overall)} (95 % of resamples: ${percent(low)} to ${percent(high)})\n`
  );
  return Object.entries(differencesOf(report)).map(line).join("");
}

/** What was measured beside the judges, a line each. */
function numbersOf({ name, codec, quality }: ModelReport): string {
  const lines = [];
  if (codec !== undefined) {
    lines.push(`codec ${codec.psnrDb.toFixed(1)} dB, SSIM ${codec.ssim.toFixed(3)}, ${percent(codec.codesUsed)} % of its codes in use`);
  }
  if (quality !== undefined) {
    const { network, frechet, frechetFloor, kernel, kernelFloor, copied, copiedFloor } = quality;
    lines.push(`distance in features of ${network}.onnx: Fréchet ${frechet.toPrecision(3)} (renders ${frechetFloor.toPrecision(3)}), \
kernel ${kernel.toPrecision(3)} (renders ${kernelFloor.toPrecision(3)})`);
    lines.push(`repeats a training render that was not asked for: ${percent(copied)} % of pictures (renders ${percent(copiedFloor)} %)`);
  }
  return lines.map((line) => `${name}: ${line}\n`).join("");
}

function summaryOf(report: GenevalReport): object {
  const { suite, images, settings, models, anchors } = report;
  const brief = ({ scores, template, both, kappa }: Judgement) => ({
    ...scores, intervals: undefined, template: template.overall, both: both.overall, ...(kappa !== undefined && { kappa }),
  });
  const [first, ...others] = models.map(({ name, judgement, codec, quality }) => ({
    model: name, ...brief(judgement), intervals: judgement.scores.intervals, ...(codec && { codec }), ...(quality && { quality }),
  }));
  return rounded({
    bench: "geneval", suite, ...(images && { images }), ...(settings && { settings }), ...first,
    ...(others.length > 0 && { others, differences: differencesOf(report) }),
    ...(anchors && { anchors: Object.fromEntries(Object.entries(anchors).map(([name, judgement]) => [name, brief(judgement)])) }),
  });
}
