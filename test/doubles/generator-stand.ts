import type { MessageInitShape } from "@bufbuild/protobuf";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { GeneratorService, type GenerateResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import type { GenerationSchema } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { implement, startServer, type RunningServer } from "#libs/rpc/server.js";
import type { GeneratorConfig } from "#services/generator/config.js";
import { startGenerator } from "#services/generator/start.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

/** What a test asks of Generate. */
export type Generation = MessageInitShape<typeof GenerationSchema>;

/** One event of a generation. */
export type GeneratorEvent = GenerateResponse["event"];

/** A real generator on a socket, behind a tokenizer that gives every prompt the same tokens, and a client of it. */
export interface GeneratorStand {
  readonly bundle: TokenBundle;
  readonly address: string;
  readonly client: ServiceClient<typeof GeneratorService>;
  readonly tokenizer: RunningServer;
  /** What the tokenizer says its bundle is. */
  setDigest(digest: string): void;
  stop(): Promise<void>;
}

/** @param options one image at a time and one request waiting, on the tiny bundle, unless told otherwise. */
export async function startGeneratorStand(options: Partial<GeneratorConfig> = {}): Promise<GeneratorStand> {
  const bundle = await openTokenBundle(options.bundleFolder ?? await tinyBundle());
  let modelDigest = bundle.digest;
  const tokenizer = await startServer({
    address: "127.0.0.1:0",
    services: [implement(TokenizerService, {
      encode: async ({ negativePrompt }) => (
        { promptTokens: [1, 5, 6, 7, 2], negativePromptTokens: negativePrompt === undefined ? [1, 2] : [1, 3, 2], modelDigest }
      ),
      decodeText: async () => ({ text: "" }),
      getTokenizerInfo: async () => ({}),
    })],
  });
  tokenizer.setServing(true);
  const generator = await startGenerator({
    address: "127.0.0.1:0", tokenizerAddress: tokenizer.address, threads: 1, provider: "cpu", maxQueueLength: 1, maxRunning: 1,
    kvCacheMib: 64, stallMs: 30_000, ...options, bundleFolder: bundle.folder,
  });
  const { client, close } = connect(GeneratorService, generator.address);
  return {
    bundle, address: generator.address, client, tokenizer,
    setDigest: (digest) => void (modelDigest = digest),
    async stop() {
      close();
      await generator.stop(0);
      await tokenizer.stop();
    },
  };
}

/** A call that is read as fast as its events come. */
export class GeneratorCall {
  readonly events: GeneratorEvent[] = [];
  /** Settles when the call has ended, however. */
  readonly ended: Promise<unknown>;
  readonly #controller = new AbortController();
  #error: unknown;
  #isEnded = false;
  #wake: () => void = () => {};

  constructor({ client }: GeneratorStand, generation: Generation, options: { readonly timeoutMs?: number } = {}) {
    const call = client.generate({ generation: { prompt: "a dog", seed: 5n, ...generation } }, { ...options, signal: this.#controller.signal });
    this.ended = this.#read(call);
  }

  /** Settles with the first event, past ones included, that is wanted. @throws the call's error if it ends before. */
  async until(isWanted: (event: GeneratorEvent) => boolean): Promise<GeneratorEvent> {
    for (;;) {
      const found = this.events.find(isWanted);
      if (found !== undefined) return found;
      if (this.#isEnded) throw this.#error ?? new Error("the call has ended");
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** The places in the queue that it has heard. */
  get places(): readonly number[] {
    return this.events.flatMap((event) => (event.case === "queued" ? [event.value.position] : []));
  }

  /** The tokens of an image so far. */
  tokens(imageIndex = 0): readonly number[] {
    return this.events.flatMap((event) => (
      event.case === "tokenChunk" && event.value.imageIndex === imageIndex ? event.value.tokens : []
    ));
  }

  /** Settles when it is complete. @throws its error. */
  async whole(): Promise<this> {
    await this.ended;
    if (this.#error !== undefined) throw this.#error;
    return this;
  }

  /** Leave. */
  async cancel(): Promise<void> {
    this.#controller.abort();
    await this.ended;
  }

  async #read(call: AsyncIterable<GenerateResponse>): Promise<void> {
    try {
      for await (const { event } of call) {
        this.events.push(event);
        this.#wake();
      }
    } catch (error) {
      this.#error = error;
    }
    this.#isEnded = true;
    this.#wake();
  }
}
