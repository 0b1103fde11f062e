import { imageEvents } from "#libs/cli/image-stream.js";
import { OnnxSession } from "#libs/onnx/session.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { type DecodeResponse, type DecoderService, type GenerateImageResponse, ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { ModelInfo } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { readPicture, resizePicture, type Picture } from "./picture.js";

/** Pictures in one call and in one run of the encoder. */
const BATCH = 8;

/** There and back again: an encoder graph of our own, and the decoder that serves. Closed by whoever opened it. */
export class Codec {
  readonly #encoder: OnnxSession;
  readonly #client: ServiceClient<typeof DecoderService>;
  readonly #model: ModelInfo;

  /** @param encoderFile `pixels` float32 [B, 3, H, W] in -1..1 to `tokens` int64 [B, h, w]. */
  static async open(encoderFile: string, client: ServiceClient<typeof DecoderService>, model: ModelInfo): Promise<Codec> {
    return new Codec(await OnnxSession.open(encoderFile, { threads: 1, provider: "cpu" }), client, model);
  }

  private constructor(encoder: OnnxSession, client: ServiceClient<typeof DecoderService>, model: ModelInfo) {
    this.#encoder = encoder;
    this.#client = client;
    this.#model = model;
  }

  /** The image tokens of each picture. */
  async encode(pictures: readonly Picture[]): Promise<Uint32Array[]> {
    const { height, width, gridHeight, gridWidth } = this.#model;
    const [area, tokens] = [height * width, gridHeight * gridWidth];
    const ids: Uint32Array[] = [];
    for (let first = 0; first < pictures.length; first += BATCH) {
      const part = await Promise.all(pictures.slice(first, first + BATCH).map((picture) => resizePicture(picture, this.#model)));
      const pixels = new Float32Array(part.length * 3 * area);
      for (const [n, picture] of part.entries()) {
        for (let i = 0; i < 3 * area; i++) pixels[(n * 3 + (i % 3)) * area + Math.floor(i / 3)] = picture[i]! / 127.5 - 1;
      }
      const outputs = await this.#encoder.run({ pixels: { type: "float32", dims: [part.length, 3, height, width], data: pixels } });
      const drawn = Uint32Array.from(outputs["tokens"]!.data as BigInt64Array, Number);
      for (let n = 0; n < part.length; n++) ids.push(drawn.slice(n * tokens, (n + 1) * tokens));
    }
    return ids;
  }

  /** The pictures of some tokens, by the decoder. */
  async decode(ids: readonly Uint32Array[], { signal }: { readonly signal: AbortSignal }): Promise<Picture[]> {
    const pictures: Picture[] = [];
    for (let first = 0; first < ids.length; first += BATCH) {
      const images = ids.slice(first, first + BATCH).map((tokens) => (
        { content: { case: "tokens" as const, value: { tokens: [...tokens] } } }
      ));
      const responses = this.#client.decode({ images, encoding: { format: ImageFormat.PNG } }, { signal });
      for await (const event of imageEvents(asImageChunks(responses))) {
        if (event.type === "picture") pictures.push(await readPicture(event.picture.data));
      }
    }
    return pictures;
  }

  /** End the encoder. */
  async close(): Promise<void> {
    await this.#encoder.close();
  }
}

async function* asImageChunks(responses: AsyncIterable<DecodeResponse>): AsyncGenerator<GenerateImageResponse> {
  for await (const { imageChunk } of responses) {
    yield { event: { case: "imageChunk", value: imageChunk! } } as GenerateImageResponse;
  }
}
