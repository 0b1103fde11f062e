import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { openProgress, type Progress } from "#libs/cli/progress.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { ModelInfo } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { Draws } from "#libs/training/scene.js";
import { otherPlace, renderOf } from "./anchors.js";
import { CodecQuality } from "./codec-quality.js";
import { Codec } from "./codec.js";
import { FeatureNetwork, type Quality } from "./feature-network.js";
import { Gallery } from "./gallery.js";
import { picturesEach, type Judgement, type Jury } from "./jury.js";
import type { GenevalOptions } from "./options.js";
import type { Picture } from "./picture.js";
import type { PromptedScene } from "./prompts.js";
import type { Atlas } from "./renders.js";
import { printReport, writeReport, type ModelReport } from "./report.js";
import { Retrieval } from "./retrieval.js";
import { fillGallery, withDecoder } from "./served-pictures.js";

/** Training scenes that pictures may be copies of, besides those whose captions are most like the prompts. */
const TRAINING_SCENES = 4000;

/** What every way of running the benchmark works with. */
export interface Bench {
  readonly options: GenevalOptions;
  readonly prompts: readonly PromptedScene[];
  readonly atlas: Atlas;
  readonly jury: Jury;
  readonly signal: AbortSignal;
}

/** What one model has made. */
interface ModelRun {
  readonly name: string;
  /** Where its pictures and report are. */
  readonly folder: string;
  readonly picturesOf: (place: number) => Promise<readonly Picture[]>;
  readonly codec: Awaited<ReturnType<typeof judgeCodec>>;
}

/** Make each model's pictures of all prompts, judge them and what to compare them with, and report. */
export async function judgeModels(bench: Bench): Promise<void> {
  const { options, prompts, jury, signal } = bench;
  const progress = openProgress(process.stderr, "prompts");
  const retrieval = new Retrieval(bench.atlas.vocabulary);
  const [runs, models]: [ModelRun[], ModelReport[]] = [[], []];
  for (const bundle of options.bundles) {
    const run = await makePictures(bench, bundle, progress);
    progress.say(`judging ${run.name}`);
    const judgement = await jury.judge(prompts, run.picturesOf, { signal });
    const quality = await qualityOf(bench, run.picturesOf, retrieval);
    runs.push(run);
    models.push({ name: run.name, judgement, quality, ...(run.codec && { codec: run.codec.numbers }) });
  }
  const { suite, images, settings } = options;
  const report = { suite, images, settings, models, anchors: await judgeAnchors(bench, runs[0]!, retrieval) };
  for (const [at, { folder, picturesOf }] of runs.entries()) {
    await writeReport(folder, { ...report, models: [models[at]!] }, { prompts, picturesOf });
  }
  printReport(options, report);
}

/** What a model's score lies between, by the codec and the pictures of the first one. */
async function judgeAnchors(
  { options, prompts, atlas, jury, signal }: Bench, { picturesOf, codec }: ModelRun, retrieval: Retrieval,
): Promise<Record<string, Judgement>> {
  const judged = (make: (place: number, image: number) => Promise<Picture>) => jury.judge(prompts, picturesEach(options.images, make), { signal });
  return {
    "real renders": await judged(async (place, image) => renderOf(prompts[place]!, image, atlas)),
    ...(codec && { "codec reconstructions": codec.judgement }),
    "nearest caption": await judged(async (place, image) => (
      atlas.draw(retrieval.nearest(prompts[place]!.prompt.prompt), new Draws(image, place))
    )),
    "shuffled prompts": await jury.judge(prompts, async (place) => picturesOf(otherPlace(prompts, place, 0)), { signal }),
  };
}

/** Every picture of one model, made now or in an earlier run with the same model and settings, and what its codec can do. */
async function makePictures(bench: Bench, bundle: string, progress: Progress): Promise<ModelRun> {
  const { options, prompts, signal } = bench;
  return withDecoder({ bundle, target: options.target }, { signal }, async (client) => {
    const model = (await client.getDecoderInfo({}, { signal })).model!;
    const run = createHash("sha256").update(`${model.digest}${JSON.stringify(options.settings)}`).digest("hex").slice(0, 8);
    const folder = join(options.folder, `${model.name}-${run}`, options.suite);
    const gallery = await Gallery.open(join(folder, "pictures"));
    await fillGallery(gallery, prompts, client, { options, progress, signal });
    return {
      // Stages of one model bear the same name: their folders tell them apart.
      name: options.bundles.length > 1 ? basename(bundle) : model.name, folder,
      picturesOf: (place: number) => gallery.read(prompts[place]!, options.images), codec: await judgeCodec(bench, client, model),
    };
  });
}

/** What the codec leaves of renders: the ceiling of every model that speaks its tokens. One picture a prompt. */
async function judgeCodec(
  { options, prompts, atlas, jury, signal }: Bench, client: ServiceClient<typeof DecoderService>, model: ModelInfo,
): Promise<{ readonly judgement: Judgement; readonly numbers: CodecQuality["numbers"] } | undefined> {
  if (options.encoderFile === undefined) return undefined;
  const codec = await Codec.open(options.encoderFile, client, model);
  try {
    const quality = new CodecQuality(model.codebookSize);
    const judgement = await jury.judge(prompts, async (place) => {
      const original = renderOf(prompts[place]!, 0, atlas, 0);
      const tokens = await codec.encode([original]);
      const decoded = await codec.decode(tokens, { signal });
      quality.add(original, decoded[0]!, tokens[0]!);
      return decoded;
    }, { signal });
    return { judgement, numbers: quality.numbers };
  } finally {
    await codec.close();
  }
}

/** How a model's pictures lie among renders. */
async function qualityOf(
  { options, prompts, atlas }: Bench, picturesOf: (place: number) => Promise<readonly Picture[]>, retrieval: Retrieval,
): Promise<Quality> {
  const network = await FeatureNetwork.open(options.featuresFile);
  const training = [...retrieval.scenes(TRAINING_SCENES), ...prompts.map(({ prompt }) => retrieval.nearest(prompt.prompt))];
  try {
    return await network.qualityOf({
      made: await Promise.all(prompts.map((_, place) => picturesOf(place))),
      renders: prompts.map(({ scene }) => atlas.draw(scene, new Draws(0, 0))),
      shiftedRenders: prompts.map(({ scene, index }) => atlas.draw(scene, new Draws(1, index), 3)),
      otherRenders: prompts.map((prompt) => renderOf(prompt, 0, atlas, 0)),
      training: training.map((scene) => atlas.draw(scene, new Draws(0, 0))),
    });
  } finally {
    await network.close();
  }
}
