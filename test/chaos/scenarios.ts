import { setTimeout as sleep } from "node:timers/promises";
import type { GeneratorPair } from "#test/doubles/generator-pair.js";
import type { ImageLoad, LoadReport } from "./image-load.js";

/** What is done to a pair of generators under load. */
export type Scenario = (pair: GeneratorPair, load: ImageLoad) => Promise<LoadReport>;

/** Enough to keep both generators at work. */
export const CLIENTS = 4;

/** How long nothing, or the same, happens. */
const SPELL_MS = 2000;

const STOP_GRACE_MS = 30_000;

/** Nothing happens. */
export const calm: Scenario = (_pair, load) => load.during(CLIENTS, () => sleep(SPELL_MS));

/** One generator is killed under load and comes back. */
export const kill: Scenario = (pair, load) => load.during(CLIENTS, async () => {
  await sleep(SPELL_MS / 4);
  const victim = await pair.busiest();
  pair.generators[victim].kill("SIGKILL");
  await pair.generators[victim].ended;
  await pair.restart(victim);
});

/** Both generators are stopped and started again, one after the other, as an upgrade does. */
export const rollingRestart: Scenario = (pair, load) => load.during(CLIENTS, async () => {
  for (const number of [0, 1]) {
    await pair.generators[number].stop(STOP_GRACE_MS);
    await pair.restart(number);
  }
});

/** What the quieter of both generators does for each image of the other, over some time; 1 is fair. */
export async function balance(pair: GeneratorPair, load: ImageLoad): Promise<{ readonly report: LoadReport; readonly balance: number }> {
  const before = await Promise.all([0, 1].map((number) => pair.imagesOf(number)));
  const report = await calm(pair, load);
  const made = await Promise.all(before.map(async (count, number) => await pair.imagesOf(number) - count));
  return { report, balance: Math.min(...made) / Math.max(...made) };
}
