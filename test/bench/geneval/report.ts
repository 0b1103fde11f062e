import { join } from "node:path";
import { writeOutFile } from "#libs/cli/out-files.js";
import { rounded, table } from "../table.js";
import type { CodecQuality } from "./codec-quality.js";
import type { Quality } from "./feature-network.js";
import type { Judgement } from "./jury.js";
import type { GenevalOptions } from "./options.js";
import type { Picture } from "./picture.js";
import { TASKS, type PromptedScene } from "./prompts.js";
import { verdictSheet } from "./verdict-sheet.js";

/** One run of the benchmark. */
export interface GenevalReport {
  readonly suite: string;
  readonly model?: string;
  /** Pictures of each prompt. */
  readonly images?: number;
  readonly settings?: object;
  /** How much its codec alone loses. */
  readonly codec?: CodecQuality["numbers"];
  /** How its pictures lie among renders. */
  readonly quality?: Quality;
  /** By what was judged; the first one is what the run was about, the others are what to compare it with. */
  readonly judgements: Readonly<Record<string, Judgement>>;
}

/** Tables for people, unless only JSON is wanted, and one line of JSON. */
export function printReport(options: GenevalOptions, report: GenevalReport): void {
  if (!options.isJson) {
    process.stdout.write(`${report.suite} suite, share of correct pictures in percent, the mean with its 95 % interval\n\n`);
    process.stdout.write(table([
      ["", "mean", "from", "to", ...TASKS, "template", "both", "kappa"],
      ...Object.entries(report.judgements).map(([name, judgement]) => [name, ...cellsOf(judgement)]),
    ]));
    process.stdout.write(`\n${numbersOf(report)}`);
  }
  process.stdout.write(`${JSON.stringify(summaryOf(report))}\n`);
}

/** Keep the report with every verdict, and a sheet of pictures framed by verdict. */
export async function writeReport(
  folder: string, report: GenevalReport,
  { prompts, picturesOf }: { readonly prompts: readonly PromptedScene[]; readonly picturesOf: (place: number) => Promise<readonly Picture[]> },
): Promise<void> {
  const [[, { verdicts }]] = Object.entries(report.judgements) as [[string, Judgement]];
  const rows = prompts.map(({ prompt }, place) => ({ ...prompt, correct: verdicts[place] }));
  const json = { ...summaryOf(report), prompts: rows };
  await writeOutFile(join(folder, "report.json"), Buffer.from(`${JSON.stringify(json, undefined, 1)}\n`));
  await writeOutFile(join(folder, "sheet.png"), await verdictSheet(prompts, verdicts, picturesOf));
}

/** What was measured beside the judges, a line each. */
function numbersOf({ codec, quality }: GenevalReport): string {
  const lines = [];
  if (codec !== undefined) {
    lines.push(`codec: ${codec.psnrDb.toFixed(1)} dB, SSIM ${codec.ssim.toFixed(3)}, ${(100 * codec.codesUsed).toFixed(0)} % of its codes in use`);
  }
  if (quality !== undefined) {
    const { network, frechet, frechetFloor, kernel, kernelFloor, nearestTraining, nearestTrainingFloor } = quality;
    lines.push(`distance by ${network}: Fréchet ${frechet.toPrecision(3)} (renders ${frechetFloor.toPrecision(3)}), \
kernel ${kernel.toPrecision(3)} (renders ${kernelFloor.toPrecision(3)})`);
    lines.push(`cosine with the nearest training render: ${nearestTraining.toFixed(3)} (renders ${nearestTrainingFloor.toFixed(3)})`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function cellsOf({ scores, template, both, kappa }: Judgement): string[] {
  const percent = (value: number | undefined) => (value === undefined ? "" : (100 * value).toFixed(1));
  return [
    ...[scores.overall, ...scores.interval, ...TASKS.map((task) => scores[task]), template.overall, both.overall].map(percent),
    kappa?.toFixed(2) ?? "",
  ];
}

function summaryOf({ judgements, ...about }: GenevalReport): object {
  const brief = ({ scores, template, both, kappa }: Judgement) => ({
    ...scores, template: template.overall, both: both.overall, ...(kappa !== undefined && { kappa }),
  });
  const [[, first], ...anchors] = Object.entries(judgements) as [[string, Judgement], ...[string, Judgement][]];
  return rounded({
    bench: "geneval", ...about, ...brief(first),
    ...(anchors.length > 0 && { anchors: Object.fromEntries(anchors.map(([name, judgement]) => [name, brief(judgement)])) }),
  });
}
