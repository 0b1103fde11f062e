import type { MessageInitShape } from "@bufbuild/protobuf";
import { imageEvents, type ImageEvent, type Picture } from "#libs/cli/image-stream.js";
import { ServiceProcess, type ServiceName } from "#libs/cli/service-process.js";
import { startStack, stopStack, type Stack } from "#libs/cli/stack.js";
import type { Env } from "#libs/config/env.js";
import { connect } from "#libs/rpc/client.js";
import type { CallLimits, ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService, type GenerateImageRequestSchema, type ImageFinished } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

/** Three real processes on free ports, and a client of the decoder. */
export interface TestStack {
  /** The processes as they are now. */
  readonly stack: Stack;
  readonly client: ServiceClient<typeof DecoderService>;
  /** Start a service that has ended again, where it was. Settles when it serves. */
  restart(name: ServiceName): Promise<void>;
  stop(): Promise<void>;
}

/** What a test asks for beside the prompt. */
export type ImageRequest = MessageInitShape<typeof GenerateImageRequestSchema>;

/** What a test may say about its call. */
export type CallOptions = CallLimits & { readonly signal?: AbortSignal; readonly includeTokens?: boolean };

/** What one call made; pictures and ends in the order of the images, whatever came first. */
export interface TestImages {
  readonly pictures: readonly Picture[];
  readonly previews: readonly Picture[];
  readonly finished: readonly ImageFinished[];
}

const STOP_GRACE_MS = 30_000;

/** @param options.bundle a bundle's folder; the tiny one if left out. */
export async function startTestStack(options: { readonly bundle?: string; readonly env?: Env } = {}): Promise<TestStack> {
  const { bundle = await tinyBundle() } = options;
  const env = { TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", ...options.env };
  let stack = await startStack({ env });
  const { client, close } = connect(DecoderService, stack.decoder.address);
  return {
    get stack() {
      return stack;
    },
    client,
    async restart(name) {
      const { tokenizer, generator } = stack;
      const own = {
        TESSERA_ADDRESS: stack[name].address, TESSERA_TOKENIZER_ADDRESS: tokenizer.address, TESSERA_GENERATOR_ADDRESS: generator.address,
      };
      const process = await ServiceProcess.start(name, { env: { ...env, ...own } });
      stack = { ...stack, [name]: process };
    },
    async stop() {
      close();
      await stopStack(stack, STOP_GRACE_MS);
    },
  };
}

/** The events of one call; `request` fields replace those of a small request with seed 1. */
export function events(
  { client }: TestStack, request: ImageRequest["generation"] = {}, { includeTokens = false, ...options }: CallOptions = {},
): AsyncGenerator<ImageEvent> {
  const generation = { prompt: "three red apples", seed: 1n, ...request };
  return imageEvents(client.generateImage({ generation, includeTokens }, options));
}

/** One call to its end. */
export async function makeImages(
  stack: TestStack, request: ImageRequest["generation"] = {}, options: CallOptions = {},
): Promise<TestImages> {
  return collectImages(events(stack, request, options));
}

/** The rest of a call. */
export async function collectImages(rest: AsyncIterable<ImageEvent>): Promise<TestImages> {
  const all: Picture[] = [];
  const finished: ImageFinished[] = [];
  for await (const event of rest) {
    if (event.type === "picture") all.push(event.picture);
    if (event.type === "finished") finished.push(event.finished);
  }
  const byImage = (a: { readonly imageIndex: number }, b: { readonly imageIndex: number }) => a.imageIndex - b.imageIndex;
  return {
    pictures: all.filter(({ isPreview }) => !isPreview).sort(byImage), previews: all.filter(({ isPreview }) => isPreview),
    finished: finished.sort(byImage),
  };
}

/** Read a call up to its first event of a type; the call stays open. Fails if it ends before. */
export async function firstEvent<T extends ImageEvent["type"]>(
  call: AsyncGenerator<ImageEvent>, type: T,
): Promise<Extract<ImageEvent, { type: T }>> {
  for (let step = await call.next(); !step.done; step = await call.next()) {
    if (step.value.type === type) return step.value as Extract<ImageEvent, { type: T }>;
  }
  throw new Error(`the call ended without ${type}`);
}

/** The error that a call ends with; undefined if it ends well. */
export async function errorOf(call: AsyncIterable<unknown>): Promise<unknown> {
  try {
    for await (const _ of call);
    return undefined;
  } catch (error) {
    return error;
  }
}
