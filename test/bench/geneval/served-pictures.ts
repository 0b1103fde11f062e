import { setTimeout as delay } from "node:timers/promises";
import { imageEvents } from "#libs/cli/image-stream.js";
import type { Progress } from "#libs/cli/progress.js";
import { startStack, stopStack } from "#libs/cli/stack.js";
import { AppError } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService, ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Gallery } from "./gallery.js";
import type { GenevalOptions } from "./options.js";
import type { PromptedScene } from "./prompts.js";

type DecoderClient = ServiceClient<typeof DecoderService>;

const STOP_GRACE_MS = 3000;

/** Work with the decoder of a target, or of services of our own that serve a bundle and are gone when the work ends. */
export async function withDecoder<T>(
  { target, bundle }: { readonly target: string | undefined; readonly bundle: string }, { signal }: { readonly signal: AbortSignal },
  work: (client: DecoderClient) => Promise<T>,
): Promise<T> {
  const env = { TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn" };
  const stack = target === undefined ? await startStack({ env, signal }) : undefined;
  const { client, close } = connect(DecoderService, target ?? stack!.decoder.address);
  try {
    return await work(client);
  } finally {
    close();
    if (stack !== undefined) await stopStack(stack, STOP_GRACE_MS);
  }
}

/**
 * Fill a gallery with what a model makes of prompts: the pictures of the prompt at `index` have the seed `index + 1`.
 * Several requests are under way at one time; one that finds the queue full comes again later.
 */
export async function fillGallery(
  gallery: Gallery, prompts: readonly PromptedScene[], client: DecoderClient,
  { options, progress, signal }: { readonly options: GenevalOptions; readonly progress: Progress; readonly signal: AbortSignal },
): Promise<void> {
  const missing = prompts.filter((prompt) => !gallery.has(prompt, options.images));
  let done = prompts.length - missing.length;
  const rest = missing.values();
  progress.begin(prompts.length);
  const failure = new AbortController();
  const stop = AbortSignal.any([signal, failure.signal]);
  const work = async () => {
    for (const prompt of rest) {
      await makePictures(gallery, prompt, client, { options, signal: stop });
      progress.advance(++done);
    }
  };
  try {
    const works = Array.from({ length: options.parallel }, work);
    await Promise.all(works.map((one) => one.catch((error: unknown) => {
      failure.abort(error);
      throw error;
    })));
  } finally {
    progress.end();
  }
}

async function makePictures(
  gallery: Gallery, prompted: PromptedScene, client: DecoderClient,
  { options, signal }: { readonly options: GenevalOptions; readonly signal: AbortSignal },
): Promise<void> {
  const { guidanceScale, ...sampling } = options.settings;
  const request = {
    generation: {
      prompt: prompted.prompt.prompt, seed: BigInt(prompted.index + 1), imageCount: options.images, sampling,
      ...(guidanceScale !== undefined && { guidanceScale }),
    },
    encoding: { format: ImageFormat.PNG },
  };
  for (;;) {
    try {
      for await (const event of imageEvents(client.generateImage(request, { signal }))) {
        if (event.type === "picture") await gallery.write(prompted, event.picture.imageIndex, event.picture.data);
      }
      return;
    } catch (thrown) {
      const error = AppError.from(thrown);
      if (error.kind !== "overloaded") throw error;
      await delay(error.retryDelayMs ?? 1000, undefined, { signal });
    }
  }
}
