import type { MessageInitShape } from "@bufbuild/protobuf";
import { context, type Context } from "@opentelemetry/api";
import type { TokenBundle } from "#libs/bundle/bundle.js";
import { AppError, cancelled, unsupported } from "#libs/errors/errors.js";
import type { CallContext, ServiceClient, ServiceImplementation } from "#libs/rpc/definition.js";
import type { GenerateRequest, GenerateResponseSchema, GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { EncodeResponse, TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { FinishReason, type GenerationSettingsSchema, type StartedSchema } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import type { GenerationEvent } from "./engine/generation.js";
import type { ThreadEngine } from "./engine/thread-engine.js";
import { CallMetrics } from "./call-metrics.js";
import { encodePrompts } from "./encode-prompts.js";
import { ImageSpans } from "./image-spans.js";
import { validateGeneration, type ValidGeneration } from "./validate.js";

type Response = MessageInitShape<typeof GenerateResponseSchema>;

/** What the service works with; all of it stays the caller's to close. */
export interface GeneratorParts {
  readonly bundle: TokenBundle;
  readonly engine: Pick<ThreadEngine, "generate" | "layout" | "snapshot">;
  /** Requests that may wait. */
  readonly maxWaiting: number;
  readonly tokenizer: ServiceClient<typeof TokenizerService>;
}

/** One request on its way: what every step of it needs. */
interface Call {
  readonly parts: GeneratorParts;
  readonly valid: ValidGeneration;
  readonly signal: AbortSignal;
  readonly deadline: number;
  /** Parent of all spans: `yield` loses the active context. */
  readonly parent: Context;
  readonly arrivedAt: number;
}

function settingsOf(valid: ValidGeneration): MessageInitShape<typeof GenerationSettingsSchema> {
  const { guidanceScale, temperature, topK, topP, repetitionPenalty, seed, images } = valid;
  return { guidanceScale, temperature, topK, topP, repetitionPenalty, seed, imageCount: images.length };
}

function startedOf({ parts, valid }: Call, encoded: EncodeResponse): MessageInitShape<typeof StartedSchema> {
  return {
    model: modelInfoOf(parts.bundle),
    settings: settingsOf(valid),
    promptTokenCount: encoded.promptTokens.length,
    negativePromptTokenCount: valid.guidanceScale === 1 ? 0 : encoded.negativePromptTokens.length,
    imageTokenCount: parts.engine.layout.imageTokenCount,
  };
}

/** Turns the engine's events into the call's responses. */
class Responses {
  readonly #call: Call;
  readonly #encoded: EncodeResponse;
  readonly #tokenizeMs: number;
  #isStarted = false;

  constructor(call: Call, encoded: EncodeResponse) {
    this.#call = call;
    this.#encoded = encoded;
    this.#tokenizeMs = performance.now() - call.arrivedAt;
  }

  of(event: GenerationEvent): Response | undefined {
    if (event.type === "queued") {
      const { position, estimatedStartMs } = event;
      return { event: { case: "queued", value: { position, estimatedStartMs } } };
    }
    if (event.type === "started") {
      const isFirst = !this.#isStarted;
      this.#isStarted = true;
      return isFirst ? { event: { case: "started", value: startedOf(this.#call, this.#encoded) } } : undefined;
    }
    if (event.type === "tokens") {
      const { imageIndex, offset, tokens } = event;
      return { event: { case: "tokenChunk", value: { imageIndex, offset, tokens: [...tokens] } } };
    }
    if (event.type === "prefilled") return undefined;
    const { imageIndex } = event;
    const timings = { tokenizeMs: this.#tokenizeMs, ...event.timings };
    const { imageTokenCount: tokenCount } = this.#call.parts.engine.layout;
    return { event: { case: "imageFinished", value: { imageIndex, finishReason: FinishReason.COMPLETE, tokenCount, timings } } };
  }
}

async function* generate(call: Call): AsyncGenerator<Response> {
  const { parts, valid, signal, deadline } = call;
  const metrics = new CallMetrics(call.arrivedAt);
  let spans: ImageSpans | undefined;
  let failure: unknown;
  let isComplete = false;
  try {
    const encoded = await encodePrompts(parts, valid, call);
    const responses = new Responses(call, encoded);
    spans = new ImageSpans(call.parent);
    metrics.submitted();
    const request = { ...valid, promptTokens: encoded.promptTokens, negativePromptTokens: encoded.negativePromptTokens, deadline };
    for await (const event of parts.engine.generate(request, { signal })) {
      spans.note(event);
      metrics.note(event);
      const response = responses.of(event);
      if (response !== undefined) yield response;
    }
    isComplete = true;
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    // A caller that leaves between two events ends this function here, without an error.
    if (!isComplete) failure ??= signal.aborted ? signal.reason : cancelled();
    spans?.end(failure);
    metrics.end(failure === undefined ? undefined : AppError.from(failure).kind);
  }
}

/** The calls of GeneratorService over an engine. */
export function generatorService(parts: GeneratorParts): ServiceImplementation<typeof GeneratorService> {
  const { bundle, engine, maxWaiting } = parts;
  return {
    async *generate(request: GenerateRequest, { signal, deadline }: CallContext) {
      const valid = validateGeneration(request.generation, bundle.manifest);
      yield* generate({ parts, valid, signal, deadline, parent: context.active(), arrivedAt: performance.now() });
    },
    generateStages() {
      throw unsupported(`${bundle.manifest.name} has discrete tokens: use Generate`);
    },
    async getGeneratorInfo(_request, { limits }: CallContext) {
      const { waitingRequests, running, slots, filledPositions, maxPositions } = engine.snapshot;
      return {
        model: modelInfoOf(bundle), defaults: bundle.manifest.defaults, maxImageCount: MAX_IMAGE_COUNT,
        maxQueueLength: maxWaiting, queueLength: waitingRequests, maxRunning: Math.floor(slots.total / 2), running,
        kvCacheUsage: filledPositions / maxPositions, limits,
      };
    },
  };
}
