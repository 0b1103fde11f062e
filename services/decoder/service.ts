import { context } from "@opentelemetry/api";
import type { CallContext, ServiceImplementation } from "#libs/rpc/definition.js";
import type { DecodeRequest, DecoderService, GenerateImageRequest } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { IMAGE_CHUNK_BYTES, MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import { imageChunks } from "./chunks.js";
import { type DecoderParts, ImageStream } from "./image-stream.js";
import { modelTexts } from "./metadata.js";
import { drawPicture } from "./picture.js";
import { validDecodeRequest, validGenerateImageRequest } from "./validate.js";

/** The calls of DecoderService over one bundle's detokenizer and a generator. */
export function decoderService(parts: DecoderParts): ServiceImplementation<typeof DecoderService> {
  const { bundle, detokenizer } = parts;
  const { image } = bundle.manifest;
  return {
    async *generateImage(request: GenerateImageRequest, { signal, deadline }: CallContext) {
      const arrivedAt = performance.now();
      const valid = validGenerateImageRequest(request, image);
      yield* new ImageStream(parts, valid, { signal, deadline, parent: context.active(), arrivedAt }).responses();
    },
    async *decode(request: DecodeRequest, { signal }: CallContext) {
      const { images, encoding } = validDecodeRequest(request, image);
      const parent = context.active();
      const texts = modelTexts(bundle);
      for (const [imageIndex, tokens] of images.entries()) {
        const picture = await drawPicture({
          detokenizer, imageIndex, preview: false, tokens, encoding, texts, parent, signal,
        });
        const place = { imageIndex, preview: false, rowsDone: image.gridHeight };
        for (const imageChunk of imageChunks(picture, place)) yield { imageChunk };
      }
    },
    async getDecoderInfo(_request, { limits }: CallContext) {
      return { model: modelInfoOf(bundle), maxImageCount: MAX_IMAGE_COUNT, maxChunkBytes: IMAGE_CHUNK_BYTES, limits };
    },
  };
}
