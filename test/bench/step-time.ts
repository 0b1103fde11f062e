import { median } from "./table.js";

/** Time of one guided step, a pair of rows with one new token each, behind `past` positions. */
export interface StepTime {
  readonly past: number;
  readonly leastMs: number;
  readonly medianMs: number;
  /** Of all threads together, the median: what others on the machine cannot lengthen much. */
  readonly processorMs: number;
}

/** Time some steps behind `past` positions, one after the other. */
export async function timeSteps(past: number, count: number, step: (index: number) => Promise<unknown>): Promise<StepTime> {
  const taken: number[] = [];
  const processor: number[] = [];
  for (let index = 0; index < count; index++) {
    const [start, used] = [performance.now(), process.cpuUsage()];
    await step(index);
    taken.push(performance.now() - start);
    const { user, system } = process.cpuUsage(used);
    processor.push((user + system) / 1000);
  }
  return { past, leastMs: Math.min(...taken), medianMs: median(taken), processorMs: median(processor) };
}
