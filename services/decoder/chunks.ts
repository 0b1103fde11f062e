import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ImageChunkSchema } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { IMAGE_CHUNK_BYTES } from "#libs/rpc/limits.js";
import type { Picture } from "./picture.js";

type ImageChunk = MessageInitShape<typeof ImageChunkSchema>;

/** Which picture of a call the chunks belong to. */
export interface ChunkPlace {
  readonly imageIndex: number;
  readonly preview: boolean;
  readonly rowsDone: number;
}

/** A picture's file cut into chunks of at most `IMAGE_CHUNK_BYTES`, in order; they are views of its bytes. */
export function* imageChunks(
  { bytes, format, height, width }: Pick<Picture, "bytes" | "format" | "height" | "width">, place: ChunkPlace,
): Generator<ImageChunk> {
  for (let offset = 0; offset < bytes.length; offset += IMAGE_CHUNK_BYTES) {
    const data = bytes.subarray(offset, offset + IMAGE_CHUNK_BYTES);
    yield { ...place, format, height, width, totalBytes: bytes.length, offset, data };
  }
}
