import { AppError, invariant, notReady } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import {
  DecoderService, ImageFormat, type GenerateImageRequestSchema, type ImageFinished,
} from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { Priority, type Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { readSecurity } from "#libs/rpc/security.js";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { PATIENCE_MS } from "./command.js";
import type { FileFormat, GenerateOptions } from "./generate-options.js";
import { imageEvents, type Picture } from "./image-stream.js";
import { previewFile, writeOutFile } from "./out-files.js";
import type { Progress } from "./progress.js";

/** One finished image. */
export interface FinishedImage {
  readonly picture: Picture;
  readonly finished: ImageFinished;
}

/** What one call made. */
export interface GeneratedImages {
  readonly started: Started;
  /** In the order of their index. */
  readonly images: readonly FinishedImage[];
}

const FORMATS: Readonly<Record<FileFormat, ImageFormat>> = {
  png: ImageFormat.PNG, webp: ImageFormat.WEBP, jpeg: ImageFormat.JPEG,
};

const PRIORITIES: Readonly<Record<NonNullable<GenerateOptions["priority"]>, Priority>> = {
  low: Priority.LOW, normal: Priority.NORMAL, high: Priority.HIGH,
};

/** The fields of a generation by the flag that sets them: a service names the field, a person typed the flag. */
const FLAG_OF_FIELD: Readonly<Record<string, string>> = {
  "generation.prompt": "PROMPT",
  "generation.negative_prompt": "--negative",
  "generation.guidance_scale": "--guidance",
  "generation.sampling.temperature": "--temperature",
  "generation.sampling.top_k": "--top-k",
  "generation.sampling.top_p": "--top-p",
  "generation.sampling.repetition_penalty": "--repetition-penalty",
  "generation.image_count": "--images",
  "generation.speculation.draft_window": "--draft-window",
};

/** What hears of a call while it goes on, and what may end it. */
export interface Listening {
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** Called with each image as it is there; the call waits for it. */
  readonly onPicture: (picture: Picture, started: Started) => Promise<void>;
}

/**
 * Call a decoder for what a command line asks for. Previews are written as they come.
 * @param address `host:port` of the decoder.
 * @throws AppError in terms of the command line.
 */
export async function generateImages(address: string, options: GenerateOptions, listening: Listening): Promise<GeneratedImages> {
  const { progress, signal } = listening;
  const security = readSecurity({ ...process.env, ...options.securityEnv });
  const { client, close } = connect(DecoderService, address, { security });
  try {
    const responses = client.generateImage(requestOf(options), { signal, timeoutMs: PATIENCE_MS });
    return await collect(imageEvents(responses), options, listening);
  } catch (error) {
    throw inTermsOfFlags(AppError.from(error), options.target);
  } finally {
    progress.end();
    close();
  }
}

async function collect(
  events: ReturnType<typeof imageEvents>, options: GenerateOptions, { progress, onPicture }: Listening,
): Promise<GeneratedImages> {
  const pictures: Picture[] = [];
  const images: FinishedImage[] = [];
  const tokensDone: number[] = [];
  let started: Started | undefined;
  for await (const event of events) {
    if (event.type === "queued") progress.say(waitingLine(event));
    if (event.type === "started") {
      started = event.started;
      progress.begin(started.imageTokenCount * options.imageCount);
    }
    if (event.type === "progress") {
      tokensDone[event.imageIndex] = event.tokensDone;
      progress.advance(tokensDone.reduce((sum, done) => sum + done, 0));
    }
    if (event.type === "picture") {
      const { picture } = event;
      if (!picture.isPreview) pictures[picture.imageIndex] = picture;
      else if (options.previewFolder !== undefined) {
        await writeOutFile(previewFile(options.previewFolder, picture.imageIndex, picture.rowsDone), picture.data);
      }
    }
    if (event.type === "finished") {
      const { imageIndex } = event.finished;
      images[imageIndex] = { picture: pictures[imageIndex], finished: event.finished };
      if (started !== undefined && pictures[imageIndex] !== undefined) await onPicture(pictures[imageIndex], started);
    }
  }
  const isComplete = images.length === options.imageCount && images.every(({ picture }) => picture !== undefined);
  if (started === undefined || !isComplete) throw invariant("the call ended before all images were there");
  return { started, images };
}

/** What a person reads who waits. */
function waitingLine({ position, estimatedStartMs }: { readonly position: number; readonly estimatedStartMs: number }): string {
  return `waiting in place ${position}, about ${Math.ceil(estimatedStartMs / 1000)} s`;
}

function requestOf(options: GenerateOptions): MessageInitShape<typeof GenerateImageRequestSchema> {
  const { prompt, negativePrompt, guidanceScale, temperature, topK, topP, repetitionPenalty, seed, imageCount, priority, draftWindow } = options;
  return {
    generation: {
      prompt, imageCount, sampling: given({ temperature, topK, topP, repetitionPenalty }), ...given({ negativePrompt, guidanceScale, seed }),
      ...(priority && { priority: PRIORITIES[priority] }), ...(draftWindow && { speculation: { draftWindow } }),
    },
    encoding: { format: FORMATS[options.format] },
    previewIntervalRows: options.previewFolder === undefined ? 0 : 1,
  };
}

/** An object without its undefined fields. */
function given<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as
    { [K in keyof T]?: Exclude<T[K], undefined> };
}

function inTermsOfFlags(error: AppError, target: string | undefined): AppError {
  if (error.kind === "not-ready" && target !== undefined) {
    return notReady(`${error.message} (asked ${target}): is a decoder running there? \`npm start\` starts all services`, error);
  }
  if (error.kind !== "invalid-request" || error.violations.length === 0) return error;
  const message = error.violations.map(({ field, description }) => {
    return `\`${FLAG_OF_FIELD[field] ?? field}\` ${description}`;
  }).join("; ");
  return new AppError("invalid-request", message, { violations: error.violations, cause: error });
}
