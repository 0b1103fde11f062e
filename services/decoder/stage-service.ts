import { context } from "@opentelemetry/api";
import type { CallContext, ServiceImplementation } from "#libs/rpc/definition.js";
import type { DecodeRequest, DecoderService, GenerateImageRequest } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { IMAGE_CHUNK_BYTES, MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import { imageChunks } from "./chunks.js";
import { modelTexts } from "./metadata.js";
import { draw } from "./picture.js";
import { StageStream, type StageDecoderParts } from "./stage-stream.js";
import { validLatentRequest, validStageImageRequest } from "./stage-validate.js";

/** The calls of DecoderService over one stage-wise bundle's flow and detokenizer, and a generator. */
export function stageDecoderService(parts: StageDecoderParts): ServiceImplementation<typeof DecoderService> {
  const { bundle, detokenizer } = parts;
  const { manifest } = bundle;
  return {
    async *generateImage(request: GenerateImageRequest, { signal, deadline }: CallContext) {
      const arrivedAt = performance.now();
      const valid = validStageImageRequest(request, manifest);
      yield* new StageStream(parts, valid, { signal, deadline, parent: context.active(), arrivedAt }).responses();
    },
    async *decode(request: DecodeRequest, { signal }: CallContext) {
      const { images, encoding } = validLatentRequest(request, manifest);
      const parent = context.active();
      const texts = modelTexts(bundle);
      for (const [imageIndex, latent] of images.entries()) {
        const picture = await draw({
          imageIndex, preview: false, detokenize: (own) => detokenizer.detokenize(latent, own), encoding, texts, parent, signal,
        });
        const place = { imageIndex, preview: false, rowsDone: manifest.image.gridHeight };
        for (const imageChunk of imageChunks(picture, place)) yield { imageChunk };
      }
    },
    async getDecoderInfo(_request, { limits }: CallContext) {
      return { model: modelInfoOf(bundle), maxImageCount: MAX_IMAGE_COUNT, maxChunkBytes: IMAGE_CHUNK_BYTES, limits };
    },
  };
}
