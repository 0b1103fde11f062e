import { create } from "@bufbuild/protobuf";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { GenerateResponse, GeneratorService, TokenChunk } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenPrefixSchema, type Generation } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { Beginning, resumed, type GenerationInit, type Progress, type ResumeOptions, type TryOptions } from "./resumed.js";

type Client = Pick<ServiceClient<typeof GeneratorService>, "generate">;

/**
 * The responses of one Generate call, come what may: what was lost on the way, because its replica died or drained, goes
 * on at another from the tokens that have arrived. They are all of an image's state, so nothing is drawn twice, the
 * images end as they would have, and the responses are those of one call that nobody disturbed.
 * @throws AppError of the last try; the signal's reason.
 */
export function resumedGeneration(
  client: Client, generation: GenerationInit, options: ResumeOptions,
): AsyncGenerator<GenerateResponse, void, undefined> {
  return resumed(new TokenProgress(client, generation), options);
}

/** One image as far as it has come. */
interface ImageProgress {
  readonly tokens: number[];
  /** Tokens that were there when the present try began. */
  heldBefore: number;
  isFinished: boolean;
}

/** What has arrived of a generation's images, and what is still to be asked for. */
class TokenProgress implements Progress<GenerateResponse> {
  readonly beginning: Beginning;
  readonly #client: Client;
  readonly #images = new Map<number, ImageProgress>();

  constructor(client: Client, generation: GenerationInit) {
    this.#client = client;
    this.beginning = new Beginning(generation);
    for (const { imageIndex, tokens } of this.beginning.generation.prefixes) {
      this.#images.set(imageIndex, { tokens: [...tokens], heldBefore: 0, isFinished: false });
    }
  }

  get tokenCount(): number {
    return [...this.#images.values()].reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  rest(options: TryOptions): AsyncIterable<GenerateResponse> {
    return this.#client.generate({ generation: this.#behindTokens() }, options);
  }

  isNews({ event }: GenerateResponse): boolean {
    if (event.case === "queued") return !this.beginning.isOver;
    if (event.case === "started") return this.beginning.start(event.value);
    if (event.case === "tokenChunk") return this.#take(event.value);
    if (event.case !== "imageFinished") return true;
    const image = this.#image(event.value.imageIndex);
    const isFirst = !image.isFinished;
    image.isFinished = true;
    return isFirst;
  }

  /** The generation as it has to be asked for now: the same seed, behind the tokens that are here. */
  #behindTokens(): Generation {
    const rest = this.beginning.again();
    if (!this.beginning.isOver) return rest;
    // A prefix is less than a whole image; the one token that is drawn again is the same.
    const most = this.beginning.imageTokenCount - 1;
    rest.prefixes = Array.from(this.#images, ([imageIndex, image]) => {
      image.heldBefore = image.tokens.length;
      return create(TokenPrefixSchema, { imageIndex, tokens: image.tokens.slice(0, most) });
    });
    return rest;
  }

  #take(chunk: TokenChunk): boolean {
    const image = this.#image(chunk.imageIndex);
    const known = Math.min(chunk.tokens.length, Math.max(0, image.heldBefore - chunk.offset));
    if (known > 0 && known === chunk.tokens.length) return false;
    if (known > 0) chunk.tokens.splice(0, known);
    chunk.offset += known;
    image.tokens.push(...chunk.tokens);
    return true;
  }

  #image(index: number): ImageProgress {
    const image = this.#images.get(index) ?? { tokens: [], heldBefore: 0, isFinished: false };
    this.#images.set(index, image);
    return image;
  }
}
