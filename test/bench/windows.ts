import { availableParallelism } from "node:os";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { median, rounded, table } from "./table.js";
import type { BenchOptions } from "./where-time-goes.js";

const WINDOWS = [1, 2, 4, 8, 16, 32, 64];

/** Text positions before the image's. */
const PROMPT = 32;

/** What a draft window costs one guided pair in the middle of an image. */
interface WindowCost {
  readonly draftWindow: number;
  readonly passMs: number;
  /** Tokens that a pass must yield so that the window costs no time. */
  readonly breakEven: number;
}

/** Windows take turns, so that all of them see the same machine. */
async function windowCosts(runner: TransformerRunner, { past, id, rounds }: {
  readonly past: number; readonly id: number; readonly rounds: number;
}): Promise<readonly WindowCost[]> {
  const times = new Map<number, number[]>(WINDOWS.map((window) => [window, []]));
  runner.reset(2, past + Math.max(...WINDOWS));
  for (let round = -1; round < rounds; round++) {
    for (const [window, taken] of times) {
      for (const row of [0, 1]) runner.resize(row, past);
      const ids = Array.from({ length: window }, () => id);
      const startedAt = performance.now();
      await runner.run({ ids: [ids, ids] });
      // The first round makes the runtime allocate.
      if (round >= 0) taken.push(performance.now() - startedAt);
    }
  }
  const plain = median(times.get(1)!);
  return [...times].map(([draftWindow, taken]) => {
    const passMs = median(taken);
    return { draftWindow, passMs, breakEven: passMs / plain };
  });
}

/** What a pass costs by its draft window, for any bundle: beside the tokens a step that drafts yield, it tells whether they pay. */
export async function windows({ bundle, rounds, isJson }: BenchOptions): Promise<void> {
  const { manifest, path } = await openTokenBundle(bundle);
  const threads = availableParallelism();
  const { image: { gridHeight, gridWidth, tokenOffset }, transformer } = manifest;
  const past = PROMPT + Math.floor((gridHeight * gridWidth) / 2);
  const runner = await TransformerRunner.open(path(transformer.file), transformer, { threads });
  try {
    const costs = await windowCosts(runner, { past, id: tokenOffset, rounds });
    if (!isJson) {
      process.stdout.write(`${manifest.name}, ${threads} threads, a guided pair behind ${past} positions, middle of ${rounds}\n\n${table([
        ["draft window", "ms a pass", "times plain"], ...costs.map((cost) => [`${cost.draftWindow}`, cost.passMs, cost.breakEven]),
      ])}\n`);
    }
    process.stdout.write(`${JSON.stringify(rounded({ bench: "windows", bundle: manifest.name, threads, past, costs }))}\n`);
  } finally {
    await runner.close();
  }
}
