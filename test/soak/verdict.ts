import type { SoakReport } from "./soak.js";

/** Sockets may come and go between two looks: a connection is made anew every few minutes, or after a restart. */
const FILES_SLACK = 8;

/** How much the generator's memory may grow over the second half of the requests: the heap breathes, a leak grows on. */
const GROWTH = 1.1;
const GROWTH_SLACK_BYTES = 8 * 2 ** 20;

/** What is wrong with a run, in words; empty if nothing is. */
export function violationsOf(report: SoakReport): readonly string[] {
  const [warm, end] = [report.residentBytes[4], report.residentBytes[9]];
  const rules: readonly (readonly [holds: boolean, violation: string])[] = [
    [report.wrongImages === 0, `${report.wrongImages} images have other tokens than in peace: ${report.firstWrong.join(", ")}`],
    [report.unanswered === 0, `${report.unanswered} calls got no answer`],
    [report.wrongAnswers === 0, `${report.wrongAnswers} calls ended as they must not: ${report.firstWrong.join(", ")}`],
    [report.leakedImages === 0, `${report.leakedImages} images are still in the generator`],
    [report.leakedCacheShare === 0, `${report.leakedCacheShare} of the idle cache is filled`],
    [report.isGeneratorAlive, "the generator did not live to the end"],
    [report.wrongAfterwards === 0, `${report.wrongAfterwards} requests give other images afterwards`],
    [report.filesAfter <= report.filesBefore + FILES_SLACK, `the generator has ${report.filesAfter} files open, ${report.filesBefore} before`],
    [end <= warm * GROWTH + GROWTH_SLACK_BYTES, `the generator's memory has grown from ${warm} to ${end} bytes`],
  ];
  return rules.filter(([holds]) => !holds).map(([, violation]) => violation);
}
