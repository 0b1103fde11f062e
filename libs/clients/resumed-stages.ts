import type { MessageInitShape } from "@bufbuild/protobuf";
import { Outbox } from "#libs/async/outbox.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type {
  GenerateStagesRequestSchema, GenerateStagesResponse, GeneratorService, StageLatent, StageLatentSchema, TokenMap,
} from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { Beginning, resumed, type GenerationInit, type Progress, type ResumeOptions, type TryOptions } from "./resumed.js";

type Client = Pick<ServiceClient<typeof GeneratorService>, "generateStages">;
type Request = MessageInitShape<typeof GenerateStagesRequestSchema>;

/** What the flow made of one token map. */
export type StageLatentInit = Exclude<MessageInitShape<typeof StageLatentSchema>, StageLatent> & {
  readonly imageIndex: number;
  readonly stage: number;
};

/** One image as far as it has come. */
interface ImageProgress {
  /** By stage. */
  readonly latents: StageLatentInit[];
  /** Stages whose maps have arrived in any try, in the tries before the present one, and in the present one. */
  mapCount: number;
  heldBefore: number;
  mapsOfTry: number;
  tokenCount: number;
  isFinished: boolean;
}

/**
 * One GenerateStages call, come what may: what was lost on the way, because its replica died or drained, goes on at another.
 * An image's latents are all of its state: the other replica is given those that are here and makes the maps behind them
 * again, unheard; no flow runs twice, and the images end as they would have.
 */
export class ResumedStages implements Progress<GenerateStagesResponse> {
  readonly beginning: Beginning;
  readonly #client: Client;
  readonly #images = new Map<number, ImageProgress>();
  #requests = new Outbox<Request>();

  constructor(client: Client, generation: GenerationInit) {
    this.#client = client;
    this.beginning = new Beginning(generation);
  }

  /** The responses of one call that nobody disturbed. Iterate once. @throws AppError of the last try; the signal's reason. */
  responses(options: ResumeOptions): AsyncGenerator<GenerateStagesResponse, void, undefined> {
    return resumed(this, options);
  }

  /** Send what the flow made of the last map of an image. */
  deliver(latent: StageLatentInit): void {
    const image = this.#image(latent.imageIndex);
    image.latents[latent.stage] = latent;
    if (latent.stage < image.mapsOfTry) this.#send(latent);
  }

  get tokenCount(): number {
    return [...this.#images.values()].reduce((sum, { tokenCount }) => sum + tokenCount, 0);
  }

  async *rest(options: TryOptions): AsyncGenerator<GenerateStagesResponse, void, undefined> {
    const requests = this.#requests = new Outbox<Request>();
    for (const image of this.#images.values()) Object.assign(image, { heldBefore: image.mapCount, mapsOfTry: 0 });
    requests.put({ message: { case: "generation", value: this.beginning.again() } });
    try {
      yield* this.#client.generateStages(requests, options);
    } finally {
      requests.close();
    }
  }

  isNews({ event }: GenerateStagesResponse): boolean {
    if (event.case === "queued") return !this.beginning.isOver;
    if (event.case === "started") return this.beginning.start(event.value);
    if (event.case === "tokenMap") return this.#take(event.value);
    if (event.case !== "imageFinished") return true;
    const image = this.#image(event.value.imageIndex);
    const isFirst = !image.isFinished;
    image.isFinished = true;
    return isFirst;
  }

  #take({ imageIndex, stage, height, width }: TokenMap): boolean {
    const image = this.#image(imageIndex);
    image.mapsOfTry = stage + 1;
    if (stage < image.heldBefore) {
      const latent = image.latents[stage];
      if (latent !== undefined) this.#send(latent);
      return false;
    }
    image.mapCount = stage + 1;
    image.tokenCount += height * width;
    return true;
  }

  #send(latent: StageLatentInit): void {
    this.#requests.put({ message: { case: "latent", value: latent } });
  }

  #image(index: number): ImageProgress {
    const image = this.#images.get(index) ?? { latents: [], mapCount: 0, heldBefore: 0, mapsOfTry: 0, tokenCount: 0, isFinished: false };
    this.#images.set(index, image);
    return image;
  }
}
