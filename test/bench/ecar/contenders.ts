import { gaussianNoise } from "#libs/flow/noise.js";
import type { Latent } from "#libs/flow/latent.js";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { encodeImage } from "#services/decoder/encode.js";
import { readPicture, type Picture } from "../geneval/picture.js";
import { OneProcess } from "../one-process.js";
import { ditMacs, ecarMacs, type CostLoad } from "./costs.js";
import type { DitModel } from "./dit-model.js";
import type { EcarModel, Wish } from "./ecar-model.js";

const PNG = { format: ImageFormat.PNG, quality: 0, includePrompt: false } as const;

/** One way of making an image. */
export interface Contender {
  readonly name: string;
  /** Networks run one after the other on the way to one image. */
  readonly passes: number;
  /** Multiplications for one image without its codec; undefined where they are not counted. */
  readonly macs: number | undefined;
  /** Everything but pixels, of some images at once. @returns what turns the image at a place into a picture. */
  make(wishes: readonly Wish[]): Promise<(place: number) => Promise<Picture>>;
}

/** E-CAR as its bundle says, at the load's guidance scale. */
export async function ecarContender(model: EcarModel, load: CostLoad): Promise<Contender> {
  return {
    name: `E-CAR, ${load.guidanceScale === 1 ? "no guidance" : `guidance ${load.guidanceScale}`}`, passes: model.manifest.stages.length + model.evaluations, macs: (await ecarMacs(model, load)).total,
    async make(wishes) {
      const latents = await model.sample(wishes, load.guidanceScale);
      return (place) => pictureOf(model, latents[place]!);
    },
  };
}

/** Up to so many evaluations the baseline takes midpoint steps, as E-CAR does; with more Euler's make no difference. */
const FEW = 12;

/** The baseline with so many evaluations. */
export async function ditContender(dit: DitModel, model: EcarModel, load: CostLoad, evaluations: number): Promise<Contender> {
  const solver = evaluations <= FEW && evaluations % 2 === 0 ? "midpoint" : "euler";
  const { guidanceScale } = load;
  const sampling = { solver, steps: solver === "midpoint" ? evaluations / 2 : evaluations, guidanceScale } as const;
  const { latent: { channels }, image: { gridHeight: height, gridWidth: width }, stages } = model.manifest;
  return {
    name: `DiT, ${evaluations} evaluations`, passes: 1 + evaluations, macs: await ditMacs(dit, model, load, evaluations),
    async make(wishes) {
      const noises = wishes.map(({ seed }) => gaussianNoise({ seed, imageIndex: 0, stage: stages.length - 1 }, { channels, height, width }));
      const [, nothing] = model.textsOf("");
      const latents = await dit.sample(noises, wishes.map(({ prompt }) => model.textsOf(prompt)[0]), nothing, sampling);
      return (place) => pictureOf(model, latents[place]!);
    },
  };
}

/** The discrete model, one token after the other. */
export function discreteContender(local: OneProcess): Contender {
  const { image: { gridHeight, gridWidth }, name } = local.bundle.manifest;
  return {
    name: `discrete, ${name}`, passes: gridHeight * gridWidth, macs: undefined,
    async make(wishes) {
      const tokens = await Promise.all(wishes.map(({ prompt, seed }) => local.tokens(prompt, seed)));
      return async (place) => readPicture(await encodeImage(await local.detokenizer.detokenize(tokens[place]!), PNG));
    },
  };
}

async function pictureOf({ detokenizer }: EcarModel, latent: Latent): Promise<Picture> {
  return readPicture(await encodeImage(await detokenizer.detokenize(latent), PNG));
}
