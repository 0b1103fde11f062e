import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codebookSize } from "#libs/fsq/fsq.js";
import type { WeightType } from "#libs/bundle/manifest.js";
import { convertInChild } from "#test/fixtures/convert-in-child.js";
import { SIMPLEAR_SIZE, writeRandomCheckpoint } from "#test/fixtures/random-checkpoint.js";
import { rounded, table } from "./table.js";

const WEIGHT_TYPES: readonly WeightType[] = ["fp32", "fp16", "int8", "int4"];

/**
 * What converting a random checkpoint of SimpleAR's 0.5B size takes, for each weight type: seconds, peak memory, bytes
 * written. Needs 4 GB in the temporary folder and cleans up after itself.
 */
export async function conversion(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "tessera-conversion-"));
  try {
    const checkpoint = join(folder, "checkpoint");
    await writeRandomCheckpoint(checkpoint, SIMPLEAR_SIZE);
    const checkpointBytes = await bytesOf(join(checkpoint, "lm"));
    const largestArrayBytes = 2 * (SIMPLEAR_SIZE.textTokens + codebookSize(SIMPLEAR_SIZE.levels)) * SIMPLEAR_SIZE.hiddenSize;
    const rows = [];
    for (const weights of WEIGHT_TYPES) {
      const out = join(folder, weights);
      const cost = await convertInChild(checkpoint, out, weights);
      rows.push({ weights, ...cost, bundleBytes: await bytesOf(out) });
      await rm(out, { recursive: true });
    }
    process.stdout.write(table([
      ["weights", "seconds", "peak MB", "bundle MB"],
      ...rows.map(({ weights, seconds, peakBytes, bundleBytes }) => [weights, seconds, peakBytes / 1e6, bundleBytes / 1e6]),
    ]));
    process.stdout.write(`from ${(checkpointBytes / 1e6).toFixed(0)} MB, whose largest array has ${(largestArrayBytes / 1e6).toFixed(0)}\n`);
    process.stdout.write(`${JSON.stringify(rounded({ bench: "conversion", checkpointBytes, largestArrayBytes, rows }))}\n`);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function bytesOf(folder: string): Promise<number> {
  const sizes = await Promise.all((await readdir(folder)).map(async (name) => (await stat(join(folder, name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
