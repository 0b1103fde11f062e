import { invariant } from "#libs/errors/errors.js";
import type { GenerateImageResponse, ImageChunk, ImageFinished } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";

/** A whole encoded picture. */
export interface Picture {
  readonly imageIndex: number;
  readonly isPreview: boolean;
  /** Rows of tokens that are final in it. */
  readonly rowsDone: number;
  /** Pixels. */
  readonly height: number;
  /** Pixels. */
  readonly width: number;
  /** The bytes of the file. */
  readonly data: Uint8Array;
}

/** What happens on the way from a prompt to pictures, with whole pictures in place of their parts. */
export type ImageEvent =
  | { readonly type: "queued"; readonly position: number; readonly estimatedStartMs: number }
  | { readonly type: "started"; readonly started: Started }
  | { readonly type: "progress"; readonly imageIndex: number; readonly tokensDone: number; readonly tokens: readonly number[] }
  | { readonly type: "picture"; readonly picture: Picture }
  | { readonly type: "finished"; readonly finished: ImageFinished };

/** The events of one GenerateImage call. @throws AppError `internal` if the parts of a picture do not fit together. */
export async function* imageEvents(responses: AsyncIterable<GenerateImageResponse>): AsyncGenerator<ImageEvent> {
  let data = new Uint8Array();
  for await (const { event } of responses) {
    switch (event.case) {
      case "queued":
        yield { type: "queued", position: event.value.position, estimatedStartMs: event.value.estimatedStartMs };
        break;
      case "started":
        yield { type: "started", started: event.value };
        break;
      case "progress":
        yield {
          type: "progress", imageIndex: event.value.imageIndex, tokensDone: event.value.tokensDone, tokens: event.value.tokens,
        };
        break;
      case "imageChunk":
        if (event.value.offset === 0) data = new Uint8Array(event.value.totalBytes);
        if (isLastPart(data, event.value)) yield { type: "picture", picture: pictureOf(event.value, data) };
        break;
      case "imageFinished":
        yield { type: "finished", finished: event.value };
        break;
    }
  }
}

/** Put a part in its place. @returns whether the picture is whole with it. */
function isLastPart(data: Uint8Array, { offset, totalBytes, data: part }: ImageChunk): boolean {
  const end = offset + part.length;
  if (data.length !== totalBytes || end > totalBytes) {
    throw invariant(`bytes ${offset} .. ${end} are no part of a picture of ${data.length} bytes`);
  }
  data.set(part, offset);
  return end === totalBytes;
}

function pictureOf({ imageIndex, preview, rowsDone, height, width }: ImageChunk, data: Uint8Array): Picture {
  return { imageIndex, isPreview: preview, rowsDone, height, width, data };
}
