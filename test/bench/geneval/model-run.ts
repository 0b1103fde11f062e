import { createHash } from "node:crypto";
import { join } from "node:path";
import { openProgress, type Progress } from "#libs/cli/progress.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { ModelInfo } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { Draws, type Scene } from "#libs/training/scene.js";
import { otherPlace, renderOf } from "./anchors.js";
import { CodecQuality } from "./codec-quality.js";
import { Codec } from "./codec.js";
import { FeatureNetwork, type Quality } from "./feature-network.js";
import { Gallery } from "./gallery.js";
import { picturesEach, type Judgement, type Jury } from "./jury.js";
import type { GenevalOptions } from "./options.js";
import type { Picture } from "./picture.js";
import { promptsOf, SUITES, type PromptedScene } from "./prompts.js";
import type { Atlas } from "./renders.js";
import { printReport, writeReport } from "./report.js";
import { Retrieval } from "./retrieval.js";
import { fillGallery, withDecoder } from "./served-pictures.js";

/** Training scenes that pictures may be copies of. */
const TRAINING_SCENES = 4000;

/** What every way of running the benchmark works with. */
export interface Bench {
  readonly options: GenevalOptions;
  readonly prompts: readonly PromptedScene[];
  readonly atlas: Atlas;
  readonly jury: Jury;
  readonly signal: AbortSignal;
}

/** Make a model's pictures of all prompts, judge them and what to compare them with, and report. */
export async function judgeModel(bench: Bench): Promise<void> {
  const { options, prompts, atlas, jury, signal } = bench;
  const progress = openProgress(process.stderr, "prompts");
  const { gallery, model, folder, codec } = await makePictures(bench, progress);
  progress.say("judging");
  const pictures = (place: number) => gallery.read(prompts[place]!, options.images);
  const retrieval = new Retrieval(atlas.vocabulary);
  const judged = (make: (place: number, image: number) => Promise<Picture>) => jury.judge(prompts, picturesEach(options.images, make), { signal });
  const judgements = {
    [model]: await jury.judge(prompts, pictures, { signal }),
    "real renders": await judged(async (place, image) => renderOf(prompts[place]!, image, atlas)),
    ...(codec && { "codec reconstructions": codec.judgement }),
    "nearest caption": await judged(async (place, image) => (
      atlas.draw(retrieval.nearest(prompts[place]!.prompt.prompt), new Draws(image, place))
    )),
    "shuffled prompts": await jury.judge(prompts, async (place) => pictures(otherPlace(prompts, place, 0)), { signal }),
  };
  const quality = await qualityOf(bench, pictures, retrieval);
  const report = {
    suite: options.suite, model, images: options.images, settings: options.settings, judgements,
    ...(codec && { codec: codec.numbers }), ...(quality && { quality }),
  };
  await writeReport(folder, report, { prompts, picturesOf: pictures });
  printReport(options, report);
}

/** Every picture of the run, made now or in an earlier one with the same model and settings, and what its codec can do. */
async function makePictures(bench: Bench, progress: Progress): Promise<{
  readonly gallery: Gallery; readonly model: string; readonly folder: string; readonly codec: Awaited<ReturnType<typeof judgeCodec>>;
}> {
  const { options, prompts, signal } = bench;
  return withDecoder(options, { signal }, async (client) => {
    const model = (await client.getDecoderInfo({}, { signal })).model!;
    const run = createHash("sha256").update(`${model.digest}${JSON.stringify(options.settings)}`).digest("hex").slice(0, 8);
    const folder = join(options.folder, `${model.name}-${run}`, options.suite);
    const gallery = await Gallery.open(join(folder, "pictures"));
    await fillGallery(gallery, prompts, client, { options, progress, signal });
    return { gallery, model: model.name, folder, codec: await judgeCodec(bench, client, model) };
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

/** How the model's pictures lie among renders, if there is a network to see it with. */
async function qualityOf(
  { options, prompts, atlas }: Bench, picturesOf: (place: number) => Promise<readonly Picture[]>, retrieval: Retrieval,
): Promise<Quality | undefined> {
  if (options.featuresFile === undefined) return undefined;
  const network = await FeatureNetwork.open(options.featuresFile);
  const draw = (scene: Scene) => atlas.draw(scene, new Draws(0, 0));
  const otherPrompts = promptsOf(SUITES.find((suite) => suite !== options.suite)!, atlas.vocabulary);
  try {
    return await network.qualityOf({
      made: (await Promise.all(prompts.map((_, place) => picturesOf(place)))).flat(),
      renders: prompts.map(({ scene }) => draw(scene)),
      otherRenders: prompts.map(({ index }) => draw(otherPrompts[index]!.scene)),
      training: retrieval.scenes(TRAINING_SCENES).map(draw),
    });
  } finally {
    await network.close();
  }
}
