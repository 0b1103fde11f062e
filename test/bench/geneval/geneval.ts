import { open, readFile } from "node:fs/promises";
import { invalidRequest } from "#libs/errors/errors.js";
import { readVocabulary } from "#libs/training/vocabulary.js";
import { controlOf, renderOf } from "./anchors.js";
import { CONTROLS } from "./controls.js";
import { Jury, picturesEach, type Judgement } from "./jury.js";
import { judgeModels, type Bench } from "./model-run.js";
import { GENEVAL_HELP, parseGenevalOptions } from "./options.js";
import { PICTURE_BYTES } from "./picture.js";
import { promptsOf, type PromptedScene } from "./prompts.js";
import { Atlas } from "./renders.js";
import { printReport } from "./report.js";

/** `npm run bench -- geneval`: see GENEVAL_HELP. */
export async function geneval(args: readonly string[], { signal }: { readonly signal: AbortSignal }): Promise<void> {
  const options = parseGenevalOptions(args);
  if (options === undefined) return void process.stdout.write(GENEVAL_HELP);
  const vocabulary = readVocabulary();
  const prompts = spread(promptsOf(options.suite, vocabulary), options.limit);
  const atlas = await Atlas.open(vocabulary);
  if (options.rendersFile !== undefined) return writeRenders(options.rendersFile, prompts, atlas, options.images);
  const jury = await Jury.open(atlas);
  try {
    const bench = { options, prompts, atlas, jury, signal };
    if (options.picturesFile !== undefined) await judgeFile(options.picturesFile, bench);
    else if (options.areControls) await judgeControls(bench);
    else await judgeModels(bench);
  } finally {
    await jury.close();
  }
}

/** `limit` of some values, evenly spread over their order. */
export function spread<T>(values: readonly T[], limit = values.length): T[] {
  return Array.from({ length: limit }, (_, i) => values[Math.floor((i * values.length) / limit)]!);
}

/** Where training would draw them, since that is what a codec and a generator are asked for. */
async function writeRenders(file: string, prompts: readonly PromptedScene[], atlas: Atlas, images: number): Promise<void> {
  const out = await open(file, "w");
  try {
    for (const prompt of prompts) {
      for (let image = 0; image < images; image++) await out.write(renderOf(prompt, image, atlas, 0));
    }
  } finally {
    await out.close();
  }
  process.stdout.write(`${JSON.stringify({ bench: "geneval", renders: prompts.length * images })}\n`);
}

async function judgeFile(file: string, { options, prompts, jury, signal }: Bench): Promise<void> {
  const bytes = await readFile(file);
  const images = bytes.length / PICTURE_BYTES / prompts.length;
  if (!Number.isInteger(images)) {
    throw invalidRequest("--pictures", `${prompts.length} prompts' pictures of ${PICTURE_BYTES} bytes`, `${bytes.length} bytes`);
  }
  const picture = (number: number) => bytes.subarray(number * PICTURE_BYTES, (number + 1) * PICTURE_BYTES);
  const judgement = await jury.judge(prompts, picturesEach(images, async (place, image) => picture(place * images + image)), { signal });
  printReport(options, { suite: options.suite, models: [{ name: "pictures", judgement }] });
}

async function judgeControls({ options, prompts, atlas, jury, signal }: Bench): Promise<void> {
  const renders = picturesEach(options.images, async (place, image) => renderOf(prompts[place]!, image, atlas));
  const judgement = await jury.judge(prompts, renders, { signal });
  const anchors: Record<string, Judgement> = {};
  for (const name of Object.keys(CONTROLS)) {
    const control = picturesEach(options.images, (place, image) => controlOf(name, prompts, place, image, atlas));
    anchors[name] = await jury.judge(prompts, control, { signal });
  }
  printReport(options, { suite: options.suite, models: [{ name: "real renders", judgement }], anchors });
}
