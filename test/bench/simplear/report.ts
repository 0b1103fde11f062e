import type { WeightType } from "#libs/bundle/manifest.js";
import type { StepTime } from "../step-time.js";
import { rounded, table } from "../table.js";
import { CONFIG } from "./random-model.js";
import type { SimplearReport, WeightReport } from "./simplear.js";

/** Bytes that one weight takes in memory: fp16 is widened when it is loaded, int4 has a scale for each block. */
const WEIGHT_BYTES: Readonly<Record<WeightType, number>> = { fp32: 4, fp16: 4, int8: 1, int4: 0.625 };
const PIXELS_PER_TOKEN = 16;

/** On the wall, or of all threads together: the second means more where others use the machine. */
type Clock = "medianMs" | "processorMs";

/** Print the tables, then everything as one line of JSON. */
export function printReport(report: SimplearReport): void {
  const { threads, bandwidth, weights, peers } = report;
  process.stdout.write(`\nrandom 0.5B, ${threads} thread(s) for each engine, memory read at ${(bandwidth / 1e9).toFixed(1)} GB/s\n\n`);
  process.stdout.write(`${costTable(weights)}\n${stepTable(report, "medianMs")}\n${stepTable(report, "processorMs")}\n${imageTable(report)}\n`);
  for (const peer of peers) if ("missing" in peer) process.stdout.write(`${peer.name}: ${peer.missing}\n`);
  const best = { wall: gains(report, "medianMs"), processor: gains(report, "processorMs") };
  process.stdout.write(`${JSON.stringify(rounded({ bench: "simplear", ...report, best }))}\n`);
}

function costTable(weights: readonly WeightReport[]): string {
  return table([
    ["weights", "file MB", "load s", "mapped s", "resident MB", "peak MB", "prefill ms", "mean error", "max error", "KL nats", "same draws"],
    ...weights.map(({ weights: type, cost, distance }) => [
      type, (cost.fileBytes / 1e6).toFixed(0), (cost.loadMs / 1000).toFixed(1),
      (cost.mappedLoadMs / 1000).toFixed(1), (cost.residentBytes / 1e6).toFixed(0),
      (cost.peakBytes / 1e6).toFixed(0), cost.prefillMs.toFixed(0), distance?.meanLogitError.toPrecision(2) ?? "",
      distance?.maxLogitError.toPrecision(2) ?? "", distance?.divergenceNats.toPrecision(2) ?? "", distance?.sameDraws.toFixed(3) ?? "",
    ]),
  ]);
}

/** Milliseconds of a guided step, mean over an image. */
function stepTable(report: SimplearReport, clock: Clock): string {
  const { sides, weights, peers } = report;
  const rows = [
    ...weights.map(({ weights: type, cost }) => [type, ...sides.map((side) => meanMs(cost.steps, side, clock))] as const),
    ...peers.flatMap((peer) => ("cost" in peer ? [[peer.name, ...sides.map((side) => meanMs(peer.cost.steps, side, clock))] as const] : [])),
    ...weights.map(({ weights: type }) => [`memory's limit, ${type}`, ...sides.map((side) => rooflineMs(report, type, side))] as const),
    ["int8 is faster than the best", ...gains(report, clock).map((gain) => (gain === undefined ? "" : `${gain.toFixed(2)} x`))],
  ];
  return table([[`${clock === "medianMs" ? "ms" : "processor ms"} per guided step`, ...sides.map(pixelsOf)], ...rows]);
}

function imageTable({ sides, weights, decoder }: SimplearReport): string {
  return table([
    ["seconds per image", ...sides.flatMap((side) => [pixelsOf(side), "of it pixels"])],
    ...weights.map(({ weights: type, cost }) => [type, ...sides.flatMap((side, index) => {
      const pixels = decoder[index].ms / 1000;
      return [(cost.prefillMs + side ** 2 * meanMs(cost.steps, side, "medianMs")) / 1000 + pixels, pixels];
    })]),
  ]);
}

/** A step's time grows evenly with the past, so the mean over an image is that of its first and its last. */
function meanMs(steps: readonly StepTime[], side: number, clock: Clock): number {
  return (steps[0][clock] + msBehind(steps, steps[0].past + side ** 2, clock)) / 2;
}

/** What was measured behind `past` positions, or lies on the line through the last two that were: it never falls. */
function msBehind(steps: readonly StepTime[], past: number, clock: Clock): number {
  const measured = steps.find((step) => step.past === past);
  if (measured !== undefined) return measured[clock];
  const [near, far] = steps.slice(-2);
  return far[clock] + (Math.max(0, far[clock] - near[clock]) * (past - far.past)) / (far.past - near.past);
}

/** What the memory's speed alone allows: all weights once, the keys and values of both rows, half an image long. */
function rooflineMs({ bandwidth, promptLength }: SimplearReport, type: WeightType, side: number): number {
  const { layers, hiddenSize, intermediateSize, heads, keyValueHeads, headSize } = CONFIG;
  const attention = hiddenSize * headSize * (heads + 2 * keyValueHeads) + hiddenSize * heads * headSize;
  const weights = layers * (attention + 3 * hiddenSize * intermediateSize) + 64_000 * hiddenSize;
  const cache = 2 * (promptLength + side ** 2 / 2) * layers * 2 * keyValueHeads * headSize * 4;
  return (1000 * (weights * WEIGHT_BYTES[type] + cache)) / bandwidth;
}

/** How many times as many steps a second int8 makes as the fastest peer, at each size. */
function gains({ weights, peers, sides }: SimplearReport, clock: Clock): readonly (number | undefined)[] {
  const ours = weights.find(({ weights: type }) => type === "int8")!;
  return sides.map((side) => {
    const others = peers.flatMap((peer) => ("cost" in peer ? [meanMs(peer.cost.steps, side, clock)] : []));
    return others.length === 0 ? undefined : Math.min(...others) / meanMs(ours.cost.steps, side, clock);
  });
}

function pixelsOf(side: number): string {
  return `${side * PIXELS_PER_TOKEN} px`;
}
