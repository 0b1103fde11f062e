import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openProgress } from "#libs/cli/progress.js";
import { readVocabulary } from "#libs/training/vocabulary.js";
import { spread } from "../geneval/geneval.js";
import { Jury, picturesEach } from "../geneval/jury.js";
import type { Picture } from "../geneval/picture.js";
import { promptsOf } from "../geneval/prompts.js";
import { Atlas } from "../geneval/renders.js";
import { differenceOf, scoresOf, type PromptResult } from "../geneval/score.js";
import { OneProcess } from "../one-process.js";
import { median } from "../table.js";
import { discreteContender, ditContender, ecarContender, type Contender } from "./contenders.js";
import { ditMacs, ecarMacs, gainOf } from "./costs.js";
import { DitModel } from "./dit-model.js";
import { EcarModel, type Wish } from "./ecar-model.js";
import { ECAR_HELP, parseEcarOptions, type EcarOptions } from "./options.js";
import { bestOf, cheapestOf, printReport, type Run } from "./report.js";

/** Images made at once. */
const BATCHES = [1, 8];
const PROMPTS = [
  "three red apples on a blue background", "a cat", "a dog left of a car", "two green frogs", "a yellow star",
  "a pizza above a drum", "a blue fish", "four balloons",
];

/** `npm run bench -- ecar`: see ECAR_HELP. */
export async function ecar(args: readonly string[], { signal }: { readonly signal: AbortSignal }): Promise<void> {
  const options = parseEcarOptions(args);
  if (options === undefined) return void process.stdout.write(ECAR_HELP);
  const folder = await mkdtemp(join(tmpdir(), "tessera-ecar-"));
  const open: { close(): Promise<void> }[] = [];
  const kept = <T extends { close(): Promise<void> }>(part: T): T => (open.push(part), part);
  try {
    const model = kept(await EcarModel.open(options.bundle, options));
    const { weights } = model.manifest.transformer;
    const dit = kept(await DitModel.open(options.dit, folder, { threads: options.threads, weights }));
    await measure(options, { model, dit, local: kept(await OneProcess.open(options.discrete, { maxRunning: Math.max(...BATCHES) })) }, signal);
  } finally {
    await Promise.all(open.map((part) => part.close()));
    await rm(folder, { recursive: true });
  }
}

interface Models {
  readonly model: EcarModel;
  readonly dit: DitModel;
  readonly local: OneProcess;
}

async function measure(options: EcarOptions, { model, dit, local }: Models, signal: AbortSignal): Promise<void> {
  const { ditGuidanceScale, guidanceScales = [...new Set([model.manifest.defaults.guidanceScale, 1])] } = options;
  const ditLoad = { prompts: PROMPTS, guidanceScale: ditGuidanceScale };
  const evaluations = [...new Set([...options.evaluations, model.evaluations])];
  const own = await Promise.all(guidanceScales.map((guidanceScale) => ecarContender(model, { prompts: PROMPTS, guidanceScale })));
  const dits = await Promise.all(evaluations.map((count) => ditContender(dit, model, ditLoad, count)));
  const contenders = [...own, ...dits, discreteContender(local)];
  const progress = openProgress(process.stderr, "prompts");
  progress.say("timing");
  const seconds = await timed(contenders, options, signal);
  progress.say("judging");
  const results = options.limit > 0 ? await judged(contenders, options, signal) : undefined;
  const runs = contenders.map(({ name, passes, macs }, place): Run => (
    { name, passes, macs, ...seconds[place]!, ...(results === undefined ? { score: undefined } : scored(results[0]!, results[place]!)) }
  ));
  const [ecars, ditRuns] = [runs.slice(0, own.length), runs.slice(own.length, -1)];
  const ecar = cheapestOf(ecars, bestOf(ditRuns));
  const guidanceScale = guidanceScales[ecars.indexOf(ecar)]!;
  const load = { prompts: PROMPTS, guidanceScale };
  const [cost, withoutPyramid] = [await ecarMacs(model, load), await ecarMacs(model, load, false)];
  const ditAtEqualEvaluations = await ditMacs(dit, model, ditLoad, model.evaluations);
  const ditWithoutGuidance = await ditMacs(dit, model, { ...ditLoad, guidanceScale: Math.min(guidanceScale, ditGuidanceScale) }, model.evaluations);
  printReport({
    model: model.manifest.name, ditGuidanceScale, threads: options.threads, images: options.limit, ecars, ecar, guidanceScale, cost,
    dits: ditRuns.map((run) => ({
      ...run,
      gain: gainOf({ dit: run.macs!, ditAtEqualEvaluations, ditWithoutGuidance, ecarWithoutPyramid: withoutPyramid.total, ecar: cost.total }),
    })),
    discrete: runs.at(-1)!,
  }, options);
}

/** Seconds of one image, in turns: what else the machine does meets all alike. The more passes, the fewer rounds. */
async function timed(contenders: readonly Contender[], { rounds }: EcarOptions, signal: AbortSignal) {
  const taken = contenders.map(() => BATCHES.map((): number[] => []));
  const codec: number[] = [];
  for (const contender of contenders) await contender.make([wish(0)]);
  for (const [column, batch] of BATCHES.entries()) {
    for (let round = 0; round < rounds; round++) {
      for (const [place, contender] of contenders.entries()) {
        signal.throwIfAborted();
        const share = contenders[0]!.passes / contender.passes;
        if (round >= Math.max(1, Math.round(rounds * Math.min(1, share)))) continue;
        const begin = performance.now();
        const draw = await contender.make(Array.from({ length: batch }, (_, i) => wish(round * batch + i)));
        const end = performance.now();
        taken[place]![column]!.push((end - begin) / batch / 1000);
        await draw(0);
        if (place === 0) codec.push((performance.now() - end) / 1000);
      }
    }
  }
  return taken.map(([one, many]) => ({ seconds: median(one!), batchSeconds: median(many!), codecSeconds: median(codec) }));
}

function wish(number: number): Wish {
  return { prompt: PROMPTS[number % PROMPTS.length]!, seed: BigInt(number) };
}

function scored(ecar: readonly PromptResult[], own: readonly PromptResult[]): Pick<Run, "score" | "interval" | "overEcar"> {
  const { overall, interval } = scoresOf(own);
  return { score: overall, interval, ...(own !== ecar && { overEcar: differenceOf(ecar, own) }) };
}

/** What the judge says of each one's pictures. */
async function judged(contenders: readonly Contender[], { suite, limit }: EcarOptions, signal: AbortSignal): Promise<readonly (readonly PromptResult[])[]> {
  const vocabulary = readVocabulary();
  const prompts = spread(promptsOf(suite, vocabulary), limit);
  const jury = await Jury.open(await Atlas.open(vocabulary));
  try {
    const all: (readonly PromptResult[])[] = [];
    for (const contender of contenders) {
      const pictures: Picture[] = [];
      for (let first = 0; first < prompts.length; first += Math.max(...BATCHES)) {
        signal.throwIfAborted();
        const part = prompts.slice(first, first + Math.max(...BATCHES));
        const draw = await contender.make(part.map(({ prompt, index }) => ({ prompt: prompt.prompt, seed: BigInt(index + 1) })));
        for (const place of part.keys()) pictures.push(await draw(place));
      }
      const { results } = await jury.judge(prompts, picturesEach(1, async (place) => pictures[place]!), { signal });
      all.push(results);
    }
    return all;
  } finally {
    await jury.close();
  }
}
