import { createHash } from "node:crypto";
import type { StageBundle } from "#libs/bundle/bundle.js";
import { stageTokenCount } from "#libs/bundle/stage-manifest.js";
import { ResumedStages } from "#libs/clients/resumed-stages.js";
import { aborted, invariant } from "#libs/errors/errors.js";
import type { Latent } from "#libs/flow/latent.js";
import { stageGuidance } from "#libs/flow/schedule.js";
import { cleanEstimate, type StageEnd } from "#libs/flow/stage-flow.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type {
  GenerateStagesResponse, GeneratorService, ImageTokensFinished, TokenMap,
} from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { log } from "#libs/telemetry/log.js";
import { ATTRIBUTES, SPANS } from "#libs/telemetry/names.js";
import { bindGenerator, inSpan } from "#libs/telemetry/spans.js";
import { bytesOfFloats } from "#libs/tensor/float-bytes.js";
import { Delivery, type ImageCall, type ImageResponse } from "./delivery.js";
import { EventRace } from "./event-race.js";
import type { FlowHead } from "./flow-head.js";
import { PATIENCE, PREVIEW_ENCODING } from "./image-stream.js";
import type { LatentDetokenizer } from "./latent-detokenizer.js";
import { modelTexts, promptTexts, stageSettingsTexts } from "./metadata.js";
import { draw, type DrawingOptions, type Picture } from "./picture.js";
import { sampleStage, stageStart } from "./stage-sampler.js";
import { tokenMapsOf } from "./stage-validate.js";
import { checkStarted, type ValidGenerateImageRequest } from "./validate.js";

/** What the service works with; all of it stays the caller's to close. */
export interface StageDecoderParts {
  readonly bundle: StageBundle;
  readonly flowHead: Pick<FlowHead, "velocity">;
  readonly detokenizer: Pick<LatentDetokenizer, "detokenize">;
  readonly generator: Pick<ServiceClient<typeof GeneratorService>, "generateStages">;
}

/** One image on its way. */
interface Image {
  readonly index: number;
  /** The stage whose map comes next. */
  stage: number;
  /** What the last stage sampled ended in. */
  latent: Latent | undefined;
  /** Previews being drawn. */
  readonly previews: Promise<unknown>[];
  flowMs: number;
  previewMs: number;
  finished: ImageTokensFinished | undefined;
  picture: Picture | undefined;
  isSent: boolean;
}

type Work =
  | { readonly type: "sample"; readonly image: Image; readonly stage: number; readonly end: StageEnd; readonly ms: number }
  | { readonly type: "preview"; readonly image: Image; readonly rowsDone: number; readonly picture: Picture }
  | { readonly type: "image"; readonly image: Image; readonly picture: Picture };

/**
 * One GenerateImage call on a model with stages: token maps come from the generator, the flow makes a latent of each, which
 * goes back for the next; progress, previews and images go out. Where a replica of the generator is lost, another goes on,
 * and the client does not notice.
 * The generator's next event, the flow of every image and all drawing are under way at once.
 */
export class StageStream {
  readonly #parts: StageDecoderParts;
  readonly #request: ValidGenerateImageRequest;
  readonly #call: ImageCall;
  readonly #images: readonly Image[];
  readonly #generation: ResumedStages;
  readonly #race = new EventRace<GenerateStagesResponse, Work>();
  readonly #delivery: Delivery;
  #signal: AbortSignal;
  #started: Started | undefined;

  constructor(parts: StageDecoderParts, request: ValidGenerateImageRequest, call: ImageCall) {
    this.#parts = parts;
    this.#request = request;
    this.#call = call;
    this.#signal = call.signal;
    this.#delivery = new Delivery(call);
    this.#generation = new ResumedStages(parts.generator, request.generation);
    this.#images = Array.from({ length: request.imageCount }, (_, index) => ({
      index, stage: 0, latent: undefined, previews: [], flowMs: 0, previewMs: 0, finished: undefined, picture: undefined, isSent: false,
    }));
  }

  /**
   * Everything that the call answers. When the iteration ends, for whatever reason, the generator's stream is cancelled
   * and neither flow nor drawing is left. Iterate once.
   * @throws as `ImageStream.responses`.
   */
  async *responses(): AsyncGenerator<ImageResponse> {
    yield* this.#race.run(this.#call.signal, (signal) => this.#generate(signal), {
      event: (event) => this.#handleEvent(event),
      work: (done) => this.#handleWork(done),
    });
    const missing = this.#images.find((image) => !image.isSent);
    if (missing !== undefined) throw aborted(`the generator ended before image ${missing.index} was complete`);
  }

  #generate(signal: AbortSignal): AsyncIterator<GenerateStagesResponse, unknown> {
    const { deadline, parent } = this.#call;
    this.#signal = signal;
    return bindGenerator(parent, this.#generation.responses({
      ...PATIENCE, deadline, signal,
      onLoss: ({ kind }, tokens) => log.warn("the generator was lost; going on at another", { kind, tokens }),
    }));
  }

  *#handleWork(done: Work): Generator<ImageResponse> {
    const { image } = done;
    if (done.type === "sample") this.#handleSample(done);
    else if (done.type === "preview") {
      image.previewMs += done.picture.detokenizeMs + done.picture.encodeMs;
      yield* this.#delivery.preview(done.picture, { imageIndex: image.index, rowsDone: done.rowsDone });
    } else {
      image.picture = done.picture;
      yield* this.#complete(image);
    }
  }

  *#handleEvent({ event }: GenerateStagesResponse): Generator<ImageResponse> {
    if (event.case === "queued") yield { event };
    else if (event.case === "started") {
      checkStarted(event.value, this.#parts.bundle);
      this.#started = event.value;
      yield { event };
    } else if (event.case === "tokenMap") yield this.#takeMap(event.value);
    else if (event.case === "imageFinished") {
      const image = this.#imageAt(event.value.imageIndex);
      if (image.stage !== this.#stages.length) throw invariant(`the generator finished image ${image.index} at stage ${image.stage}`);
      image.finished = event.value;
      yield* this.#complete(image);
    } else throw invariant(`the generator sent ${event.case ?? "an unknown event"}, which has no place in stages`);
  }

  get #stages() {
    return this.#parts.bundle.manifest.stages;
  }

  #imageAt(index: number): Image {
    const image = this.#images[index];
    if (this.#started === undefined) throw invariant("the generator sent tokens before it started");
    if (image === undefined) throw invariant(`the generator sent image ${index} of ${this.#images.length}`);
    return image;
  }

  #takeMap(map: TokenMap): ImageResponse {
    const image = this.#imageAt(map.imageIndex);
    const { stage } = image;
    if (stage > 0 && image.latent === undefined) throw invariant(`the generator sent stage ${map.stage} before it had the latent`);
    this.#race.add(this.#sample(image, map));
    image.stage++;
    const tokensDone = stageTokenCount(this.#stages.slice(0, image.stage));
    return { event: { case: "progress", value: { imageIndex: image.index, tokensDone, tokensTotal: stageTokenCount(this.#stages) } } };
  }

  /** The flow of one stage. */
  async #sample(image: Image, map: TokenMap): Promise<Work> {
    const { bundle: { manifest }, flowHead } = this.#parts;
    const { stage, latent: before } = image;
    const { guidanceScale = 1, seed = 0n } = this.#started?.settings ?? {};
    const section = this.#stages[stage];
    const isGuided = section !== undefined && stageGuidance(guidanceScale, section.guidanceShare) !== 1;
    const maps = tokenMapsOf(map, stage, isGuided, manifest);
    image.latent = undefined;
    const begin = performance.now();
    const attributes = { [ATTRIBUTES.imageIndex]: image.index, [ATTRIBUTES.stage]: stage };
    const end = await inSpan(SPANS.flow, { parent: this.#call.parent, attributes }, () => {
      const start = stageStart(this.#stages, { seed, imageIndex: image.index, stage }, manifest.latent.channels, before);
      return sampleStage(flowHead, section, { stage, maps, start, guidanceScale, signal: this.#signal });
    });
    return { type: "sample", image, stage, end, ms: performance.now() - begin };
  }

  /** Send a stage's latent for the next map, or draw the image that it is. */
  #handleSample({ image, stage, end, ms }: Work & { readonly type: "sample" }): void {
    image.flowMs += ms;
    image.latent = end.state;
    if (stage === this.#stages.length - 1) {
      this.#drawImage(image, end.state);
      return;
    }
    const { channels, height, width, values } = end.state;
    this.#generation.deliver({ imageIndex: image.index, stage, height, width, channels, values: bytesOfFloats(values) });
    this.#drawPreview(image, stage, end);
  }

  #drawPreview(image: Image, stage: number, { last }: StageEnd): void {
    const { previewIntervalRows: interval } = this.#request;
    const section = this.#stages[stage];
    const rowsBefore = this.#stages[stage - 1]?.height ?? 0;
    if (interval === 0 || Math.floor(section.height / interval) === Math.floor(rowsBefore / interval)) return;
    const drawing = this.#draw(image, true, cleanEstimate(last, section), { encoding: PREVIEW_ENCODING })
      .then((picture): Work => ({ type: "preview", image, rowsDone: section.height, picture }));
    image.previews.push(drawing);
    this.#race.add(drawing);
  }

  #drawImage(image: Image, latent: Latent): void {
    const { encoding, generation } = this.#request;
    const settings = this.#started?.settings;
    const texts = [
      ...modelTexts(this.#parts.bundle), ...(settings ? stageSettingsTexts(settings, image.index) : []),
      ...(encoding.includePrompt ? promptTexts(generation) : []),
    ];
    const drawing = this.#draw(image, false, latent, { encoding, texts });
    // Whoever watches sees the image come into focus, never out of it; what goes wrong is heard at once.
    const inOrder = Promise.all([drawing, Promise.allSettled(image.previews)]);
    this.#race.add(inOrder.then(([picture]) => ({ type: "image", image, picture })));
  }

  #draw(image: Image, preview: boolean, latent: Latent, how: Pick<DrawingOptions, "encoding" | "texts">): Promise<Picture> {
    const detokenize: DrawingOptions["detokenize"] = (own) => this.#parts.detokenizer.detokenize(latent, own);
    return draw({ ...how, imageIndex: image.index, preview, detokenize, parent: this.#call.parent, signal: this.#signal });
  }

  /** Send an image and its end, once it is drawn and the generator has told its figures. */
  *#complete(image: Image): Generator<ImageResponse> {
    const { picture, finished, latent, index: imageIndex } = image;
    if (picture === undefined || finished === undefined || latent === undefined) return;
    image.isSent = true;
    yield* this.#delivery.image(picture, { imageIndex, rowsDone: this.#parts.bundle.manifest.image.gridHeight });
    const tokenDigest = createHash("sha256").update(bytesOfFloats(latent.values)).digest("hex");
    yield this.#delivery.finished({ imageIndex, tokenDigest }, finished, {
      detokenizeMs: image.flowMs + picture.detokenizeMs, encodeMs: picture.encodeMs, previewMs: image.previewMs,
    });
  }
}
