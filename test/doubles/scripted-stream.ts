import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import type { TokenBundle } from "#libs/bundle/bundle.js";
import { GenerateImageRequestSchema, GenerateImageResponseSchema, type GenerateImageResponse } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GenerateResponseSchema, type GenerateResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { Pixels } from "#services/decoder/detokenizer.js";
import { ImageStream, type DecoderParts } from "#services/decoder/image-stream.js";
import { validGenerateImageRequest } from "#services/decoder/validate.js";

// An image stream between a generator and a detokenizer that follow scripts: images of 4 rows of 2 tokens, each 0 .. 9.

/** An event of the generator. */
export type Event = NonNullable<MessageInitShape<typeof GenerateResponseSchema>["event"]>;

/** An event that the decoder answers. */
export type Answer = GenerateImageResponse["event"];

const IMAGE = { height: 8, width: 8, gridHeight: 4, gridWidth: 2, levels: [10], codebookSize: 10, tokenOffset: 0 };

/** Of the bundle that the decoder has loaded. */
export const DIGEST = "d".repeat(64);

const bundle = { digest: DIGEST, manifest: { name: "fake", image: IMAGE } } as unknown as TokenBundle;

/** The generator begins. */
export const started: Event = { case: "started", value: { model: { digest: DIGEST }, imageTokenCount: 8, settings: { seed: 7n, topP: 0.9 } } };

/** Tokens of an image. */
export const chunk = (offset: number, tokens: number[], imageIndex = 0): Event => ({ case: "tokenChunk", value: { imageIndex, offset, tokens } });

/** The end of an image. */
export const finished = (imageIndex = 0): Event => ({ case: "imageFinished", value: { imageIndex, tokenCount: 8, timings: { decodeMs: 5 } } });

/** All of an image in one chunk. */
export const wholeImage = (imageIndex = 0): Event[] => [chunk(0, [1, 2, 3, 4, 5, 6, 7, 8], imageIndex), finished(imageIndex)];

/** A gate that a test opens. */
export function gate(): { readonly passed: Promise<void>; open(): void } {
  let open: () => void = () => {};
  const passed = new Promise<void>((resolve) => (open = resolve));
  return { passed, open: () => open() };
}

/** Rejects when the signal aborts: what every real await in a generator does. */
export const aborts = (signal: AbortSignal): Promise<never> => new Promise((_, reject) => {
  if (signal.aborted) reject(signal.reason);
  else signal.addEventListener("abort", () => reject(signal.reason), { once: true });
});

/** A generator and a detokenizer that do as told, and a count of what they were asked and what they have left open. */
export class Neighbours {
  readonly detokenized: number[][] = [];
  openStreams = 0;
  readonly #script: (signal: AbortSignal) => AsyncGenerator<Event>;
  readonly #draw: (tokens: readonly number[], signal: AbortSignal) => Promise<void>;

  constructor(
    script: (signal: AbortSignal) => AsyncGenerator<Event>,
    draw: (tokens: readonly number[], signal: AbortSignal) => Promise<void> = async () => {},
  ) {
    this.#script = script;
    this.#draw = draw;
  }

  async *generate(_request: unknown, { signal }: { readonly signal?: AbortSignal } = {}): AsyncGenerator<GenerateResponse> {
    this.openStreams++;
    try {
      for await (const event of this.#script(signal!)) yield create(GenerateResponseSchema, { event });
    } finally {
      this.openStreams--;
    }
  }

  async detokenize(tokens: ArrayLike<number>, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Pixels> {
    const drawn = Array.from(tokens);
    this.detokenized.push(drawn);
    await Promise.race([this.#draw(drawn, signal!), aborts(signal!)]);
    return { height: 8, width: 8, data: new Uint8Array(8 * 8 * 3).fill(drawn[0]) };
  }
}

/** What a test asks for. */
export interface Wishes {
  readonly imageCount?: number;
  readonly prefixes?: readonly { readonly imageIndex: number; readonly tokens: number[] }[];
  readonly previewIntervalRows?: number;
  readonly includeTokens?: boolean;
}

/** The answers of one call. */
export function stream(
  neighbours: Neighbours, { imageCount = 1, prefixes = [], ...rest }: Wishes = {}, signal = new AbortController().signal,
): AsyncGenerator<Answer> {
  const parts = { bundle, detokenizer: neighbours, generator: neighbours } as unknown as DecoderParts;
  const request = validGenerateImageRequest(create(GenerateImageRequestSchema, { generation: { prompt: "a", imageCount, prefixes: [...prefixes] }, ...rest }), IMAGE);
  const call = { signal, deadline: Infinity, parent: ROOT_CONTEXT, arrivedAt: performance.now() };
  const responses = new ImageStream(parts, request, call).responses();
  return (async function* () {
    for await (const response of responses) yield create(GenerateImageResponseSchema, response).event;
  })();
}

/** All answers. */
export async function collect(events: AsyncGenerator<Answer>): Promise<Answer[]> {
  const collected: Answer[] = [];
  for await (const event of events) collected.push(event);
  return collected;
}

/** A generator that sends these events. */
export const script = (...events: readonly Event[]) => async function* () {
  yield* events;
};

/** Names of the answers, chunks with their image and rows. */
export const outline = (answers: readonly Answer[]): string[] => answers.map((answer) => {
  if (answer.case !== "imageChunk") return answer.case ?? "nothing";
  const { preview, imageIndex, rowsDone } = answer.value;
  return `${preview ? "preview" : "image"} ${imageIndex}, ${rowsDone} rows`;
});
