import type { MessageInitShape } from "@bufbuild/protobuf";
import type { TokenBundle } from "#libs/bundle/bundle.js";
import type { CallContext } from "#libs/rpc/definition.js";
import { GeneratorService, type GenerateRequest, type GenerateResponseSchema } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import { implement, startServer, type RunningServer } from "#libs/rpc/server.js";

/** One event as a generator sends it. */
export type GeneratorEvent = MessageInitShape<typeof GenerateResponseSchema>;

/** What a fake generator answers to one call. */
export type Script = (request: GenerateRequest, context: CallContext) => AsyncGenerator<GeneratorEvent>;

/** Part of an image's tokens. */
export const tokenChunk = (imageIndex: number, offset: number, tokens: number[]): GeneratorEvent =>
  ({ event: { case: "tokenChunk", value: { imageIndex, offset, tokens } } });

/** A generator on a real socket that follows a script instead of a model. */
export class FakeGenerator {
  readonly #bundle: TokenBundle;
  /** What it does at the next call; `drawn` at first. */
  script: Script = (request) => this.drawn(request);

  /** @param bundle what it says it has loaded. */
  constructor(bundle: TokenBundle) {
    this.#bundle = bundle;
  }

  /** A server that serves this generator; the caller stops it. */
  async start(): Promise<RunningServer> {
    const server = await startServer({
      address: "127.0.0.1:0",
      services: [implement(GeneratorService, {
        generate: (request, context) => this.script(request, context),
        async *generateStages() {},
        getGeneratorInfo: async () => ({}),
      })],
    });
    server.setServing(true);
    return server;
  }

  /** The tokens that `drawn` draws for an image. */
  tokensOf(imageIndex: number): number[] {
    const { gridHeight, gridWidth, codebookSize } = this.#bundle.manifest.image;
    return Array.from({ length: gridHeight * gridWidth }, (_, position) => (position * 7 + imageIndex * 5 + 3) % codebookSize);
  }

  started(seed = 7n, digest = this.#bundle.digest): GeneratorEvent {
    return {
      event: {
        case: "started",
        value: {
          model: { ...modelInfoOf(this.#bundle), digest }, imageTokenCount: this.tokensOf(0).length,
          settings: { guidanceScale: 3, temperature: 0.9, topK: 0, topP: 1, repetitionPenalty: 1.25, seed, imageCount: 1 },
        },
      },
    };
  }

  /** Every image by `tokensOf`, three tokens a message, behind its prefix. */
  async *drawn({ generation }: GenerateRequest): AsyncGenerator<GeneratorEvent> {
    yield { event: { case: "queued", value: { position: 1 } } };
    yield this.started(generation?.seed);
    for (let imageIndex = 0; imageIndex < (generation?.imageCount || 1); imageIndex++) {
      const tokens = this.tokensOf(imageIndex);
      const prefix = generation?.prefixes.find((candidate) => candidate.imageIndex === imageIndex)?.tokens ?? [];
      for (let at = prefix.length; at < tokens.length; at += 3) yield tokenChunk(imageIndex, at, tokens.slice(at, at + 3));
      yield { event: { case: "imageFinished", value: { imageIndex, tokenCount: tokens.length, timings: { decodeSteps: 15 } } } };
    }
  }

  /** Begin an image and then hang until told to stop. @returns when it has been told. */
  hangAfter(...events: readonly GeneratorEvent[]): Promise<void> {
    return new Promise((resolve) => {
      this.script = async function* (_request, { signal }) {
        yield* events;
        await new Promise<void>((told) => signal.addEventListener("abort", () => told(), { once: true }));
        resolve();
        throw signal.reason;
      };
    });
  }
}
