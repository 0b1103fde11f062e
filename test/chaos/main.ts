import { setTimeout as sleep } from "node:timers/promises";
import { runCommand } from "#libs/cli/command.js";
import { aborted, notReady } from "#libs/errors/errors.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";
import { rounded, table } from "#test/bench/table.js";
import { startOnHosts } from "./hosts.js";
import { ImageLoad, type LoadReport } from "./image-load.js";
import { openNetwork, type Host, type Network } from "./network.js";
import { balance, CLIENTS, kill, rollingRestart } from "./scenarios.js";

/** Rows of tokens: an image takes a second or so. */
const GRID_SIZE = 24;

/** Longer than a peer may stay silent before it counts as gone: 20 s until it is probed, and 10 s for its answer. */
const PARTITION_MS = 40_000;

/** What a slow cable lets through: 8 KB a second. */
const SLOW_KILOBITS = 64;
const SLOW_MS = 5000;

/** The cable of a generator is cut in mid-image and mended. */
const partition = (load: ImageLoad, host: Host) => load.during(CLIENTS, async () => {
  await sleep(500);
  host.cut();
  await sleep(PARTITION_MS);
  host.heal();
});

/** The cable of a generator gets slow for a while. @returns undefined where this kernel cannot slow one down. */
async function slowNetwork(load: ImageLoad, host: Host): Promise<LoadReport | undefined> {
  if (!host.slowDown(SLOW_KILOBITS)) return undefined;
  return load.during(CLIENTS, () => sleep(SLOW_MS)).finally(() => host.speedUp());
}

/** Three hosts, two generators, and what goes wrong with them: a table, then one line of JSON; fails if an image is lost or wrong. */
async function chaos(network: Network): Promise<void> {
  const pair = await startOnHosts(network, await slowBundle(GRID_SIZE));
  try {
    const load = await ImageLoad.calm(pair.client);
    const [, , second] = network.hosts;
    const shared = await balance(pair, load);
    const slow = await slowNetwork(load, second);
    const reports: Record<string, LoadReport> = {
      calm: shared.report, kill: await kill(pair, load), partition: await partition(load, second), ...(slow && { slow }),
      rollingRestart: await rollingRestart(pair, load),
    };
    report(shared.balance, reports);
  } finally {
    await pair.stop();
  }
}

function report(share: number, reports: Readonly<Record<string, LoadReport>>): void {
  const all = Object.values(reports);
  const sum = (field: "images" | "lost" | "wrong") => all.reduce((total, one) => total + one[field], 0);
  const rows = Object.entries(reports).map(([name, { images, lost, wrong, p50, p95, max }]) => (
    [name, `${images}`, `${lost}`, `${wrong}`, p50, p95, max]
  ));
  process.stdout.write(`three hosts, two generators, ${CLIENTS} clients, times in ms

${table([["scenario", "images", "lost", "wrong", "p50", "p95", "longest"], ...rows])}
the quieter generator made ${share.toFixed(2)} of what the other made${reports["slow"] ? "" : "; no slow network: this kernel has no tbf"}
`);
  process.stdout.write(`${JSON.stringify(rounded({ chaos: reports, balance: share, images: sum("images"), lost: sum("lost"), wrong: sum("wrong") }))}\n`);
  if (sum("lost") + sum("wrong") > 0) throw aborted(`${sum("lost")} images were lost, ${sum("wrong")} are wrong`);
}

await runCommand(async () => {
  let network: Network;
  try {
    network = openNetwork(3);
  } catch (error) {
    throw notReady("network namespaces need root and the tool `ip`; the rest runs with the tests (test/system/chaos.test.ts)", error);
  }
  try {
    await chaos(network);
  } finally {
    network.close();
  }
});
