import { createHash } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { openProgress, type Progress } from "#libs/cli/progress.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { readVocabulary } from "#libs/training/vocabulary.js";
import { controlOf, otherPlace, renderOf } from "./anchors.js";
import { CONTROLS } from "./controls.js";
import { Gallery } from "./gallery.js";
import { Jury, type Judgement } from "./jury.js";
import { GENEVAL_HELP, parseGenevalOptions, type GenevalOptions } from "./options.js";
import { PICTURE_BYTES, type Picture } from "./picture.js";
import { promptsOf, type PromptedScene } from "./prompts.js";
import { Atlas } from "./renders.js";
import { printReport, writeReport } from "./report.js";
import { fillGallery, withDecoder } from "./served-pictures.js";

/** What every way of running the benchmark works with. */
interface Bench {
  readonly options: GenevalOptions;
  readonly prompts: readonly PromptedScene[];
  readonly atlas: Atlas;
  readonly jury: Jury;
  readonly signal: AbortSignal;
}

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
    else await judgeModel(bench);
  } finally {
    await jury.close();
  }
}

/** `limit` of some values, evenly spread over their order. */
function spread<T>(values: readonly T[], limit = values.length): T[] {
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
  const judgement = await jury.judge(prompts, each(images, async (place, image) => picture(place * images + image)), { signal });
  printReport(options, { suite: options.suite, judgements: { pictures: judgement } });
}

async function judgeControls({ options, prompts, atlas, jury, signal }: Bench): Promise<void> {
  const judgements: Record<string, Judgement> = {
    "real renders": await jury.judge(
      prompts, each(options.images, async (place, image) => renderOf(prompts[place]!, image, atlas)), { signal }),
  };
  for (const name of Object.keys(CONTROLS)) {
    const control = each(options.images, (place, image) => controlOf(name, prompts, place, image, atlas));
    judgements[name] = await jury.judge(prompts, control, { signal });
  }
  printReport(options, { suite: options.suite, judgements });
}

async function judgeModel(bench: Bench): Promise<void> {
  const { options, prompts, atlas, jury, signal } = bench;
  const progress = openProgress(process.stderr, "prompts");
  const { gallery, model, folder } = await makePictures(bench, progress);
  progress.say("judging");
  const pictures = (place: number) => gallery.read(prompts[place]!, options.images);
  const judgements = {
    [model]: await jury.judge(prompts, pictures, { signal }),
    "its pictures, other prompts": await jury.judge(prompts, async (place) => pictures(otherPlace(prompts, place, 0)), { signal }),
    "real renders": await jury.judge(
      prompts, each(options.images, async (place, image) => renderOf(prompts[place]!, image, atlas)), { signal }),
  };
  const report = { suite: options.suite, model, images: options.images, settings: options.settings, judgements };
  await writeReport(folder, report, { prompts, picturesOf: pictures });
  printReport(options, report);
}

/** Every picture of the run, made now or in an earlier one with the same model and settings. */
async function makePictures(
  { options, prompts, signal }: Bench, progress: Progress,
): Promise<{ readonly gallery: Gallery; readonly model: string; readonly folder: string }> {
  return withDecoder(options, { signal }, async (client) => {
    const { model } = await client.getDecoderInfo({}, { signal });
    const run = createHash("sha256").update(`${model!.digest}${JSON.stringify(options.settings)}`).digest("hex").slice(0, 8);
    const folder = join(options.folder, `${model!.name}-${run}`, options.suite);
    const gallery = await Gallery.open(join(folder, "pictures"));
    await fillGallery(gallery, prompts, client, { options, progress, signal });
    return { gallery, model: model!.name, folder };
  });
}

/** A function that makes `images` pictures for the prompt at a place. */
function each(
  images: number, make: (place: number, image: number) => Promise<Picture>,
): (place: number) => Promise<readonly Picture[]> {
  return (place) => Promise.all(Array.from({ length: images }, (_, image) => make(place, image)));
}
