import type { MessageInitShape } from "@bufbuild/protobuf";
import { context, type Context } from "@opentelemetry/api";
import type { Bundle } from "#libs/bundle/bundle.js";
import { unsupported } from "#libs/errors/errors.js";
import type { CallContext, ServiceClient, ServiceImplementation } from "#libs/rpc/definition.js";
import {
  FinishReason, type GenerationSettingsSchema, type StartedSchema,
} from "#libs/rpc/gen/tessera/v1/types_pb.js";
import type { GenerateRequest, GenerateResponseSchema, GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { EncodeResponse, TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { anotherBundle, modelInfoOf } from "#libs/rpc/model-info.js";
import { count, recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, SPANS } from "#libs/telemetry/names.js";
import { inContext, openSpan } from "#libs/telemetry/spans.js";
import type { Engine } from "./engine/engine.js";
import type { SequenceEvent, SequenceRequest } from "./engine/sequence.js";
import type { Ticket, WaitingLine } from "./engine/waiting-line.js";
import { validateGeneration, type ValidGeneration } from "./validate.js";

type Response = MessageInitShape<typeof GenerateResponseSchema>;

/** What the service works with; all of it stays the caller's to close. */
export interface GeneratorParts {
  readonly bundle: Bundle;
  readonly engine: Engine;
  readonly line: WaitingLine;
  readonly maxWaiting: number;
  readonly tokenizer: ServiceClient<typeof TokenizerService>;
}

/** One request on its way: what every step of it needs. */
interface Job {
  readonly parts: GeneratorParts;
  readonly valid: ValidGeneration;
  readonly signal: AbortSignal;
  /** Parent of all spans: `yield` loses the active context. */
  readonly parent: Context;
  readonly arrivedAt: number;
}

function settingsOf(valid: ValidGeneration): MessageInitShape<typeof GenerationSettingsSchema> {
  const { guidanceScale, temperature, topK, topP, seed, imageCount } = valid;
  return { guidanceScale, temperature, topK, topP, seed, imageCount };
}

function sequenceOf(valid: ValidGeneration, encoded: EncodeResponse, imageIndex: number): SequenceRequest {
  const { guidanceScale, temperature, topK, topP, seed } = valid;
  const { promptTokens, negativePromptTokens } = encoded;
  return { promptTokens, negativePromptTokens, guidanceScale, temperature, topK, topP, seed, imageIndex };
}

async function tokenize({ parts, valid, signal, parent }: Job, deadline: number): Promise<EncodeResponse> {
  const { prompt, negativePrompt } = valid;
  const text = negativePrompt === undefined ? { prompt } : { prompt, negativePrompt };
  const encoded = await inContext(parent, () => parts.tokenizer.encode(text, { signal, deadline }));
  if (encoded.modelDigest !== parts.bundle.digest) {
    throw anotherBundle("tokenizer", encoded.modelDigest, parts.bundle);
  }
  return encoded;
}

async function* waitForTurn({ signal, parent, arrivedAt }: Job, ticket: Ticket): AsyncGenerator<Response> {
  const span = openSpan(SPANS.queue, { parent });
  try {
    for await (const position of ticket.turn({ signal })) {
      span.set({ [ATTRIBUTES.queuePosition]: position });
      yield { event: { case: "queued", value: { position } } };
    }
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    span.end();
    recordDuration(METRICS.queueTime, performance.now() - arrivedAt);
  }
}

/** Pass an image's events on, with a span each for prefill and decode. */
async function* traced(job: Job, request: SequenceRequest): AsyncGenerator<SequenceEvent> {
  const attributes = { [ATTRIBUTES.imageIndex]: request.imageIndex };
  let span = openSpan(SPANS.prefill, { parent: job.parent, attributes });
  try {
    for await (const event of job.parts.engine.generate(request, { signal: job.signal })) {
      if (event.type === "prefilled") {
        span.end();
        span = openSpan(SPANS.decode, { parent: job.parent, attributes });
      }
      yield event;
    }
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    span.end();
  }
}

async function* generateOne(
  job: Job, request: SequenceRequest, waited: { readonly queueMs: number; readonly tokenizeMs: number },
): AsyncGenerator<Response> {
  const { imageIndex } = request;
  for await (const event of traced(job, request)) {
    if (event.type === "tokens") {
      if (event.offset === 0) recordDuration(METRICS.timeToFirstToken, performance.now() - job.arrivedAt);
      count(METRICS.imageTokens, event.tokens.length);
      yield {
        event: { case: "tokenChunk", value: { imageIndex, offset: event.offset, tokens: [...event.tokens] } },
      };
    }
    if (event.type === "finished") {
      count(METRICS.images, 1);
      yield {
        event: {
          case: "imageFinished",
          value: {
            imageIndex, finishReason: FinishReason.COMPLETE, tokenCount: job.parts.engine.layout.imageTokenCount,
            timings: { ...waited, ...event.timings },
          },
        },
      };
    }
  }
}

async function* generate(job: Job, deadline: number): AsyncGenerator<Response> {
  const { parts, valid, arrivedAt } = job;
  const ticket = parts.line.enter();
  try {
    const encoded = await tokenize(job, deadline);
    const tokenizeMs = performance.now() - arrivedAt;
    yield* waitForTurn(job, ticket);
    const queueMs = performance.now() - arrivedAt - tokenizeMs;
    const isGuided = valid.guidanceScale !== 1;
    const started: MessageInitShape<typeof StartedSchema> = {
      model: modelInfoOf(parts.bundle),
      settings: settingsOf(valid),
      promptTokenCount: encoded.promptTokens.length,
      negativePromptTokenCount: isGuided ? encoded.negativePromptTokens.length : 0,
      imageTokenCount: parts.engine.layout.imageTokenCount,
    };
    yield { event: { case: "started", value: started } };
    for (let imageIndex = 0; imageIndex < valid.imageCount; imageIndex++) {
      yield* generateOne(job, sequenceOf(valid, encoded, imageIndex), { queueMs, tokenizeMs });
    }
  } finally {
    ticket.leave();
  }
}

/** The calls of GeneratorService over an engine that works on one request at a time. */
export function generatorService(parts: GeneratorParts): ServiceImplementation<typeof GeneratorService> {
  const { bundle, line, maxWaiting } = parts;
  return {
    async *generate(request: GenerateRequest, { signal, deadline }: CallContext) {
      const valid = validateGeneration(request.generation, bundle.manifest);
      yield* generate({ parts, valid, signal, parent: context.active(), arrivedAt: performance.now() }, deadline);
    },
    generateStages() {
      throw unsupported(`${bundle.manifest.name} has discrete tokens: use Generate`);
    },
    async getGeneratorInfo() {
      return {
        model: modelInfoOf(bundle), defaults: bundle.manifest.defaults, maxImageCount: MAX_IMAGE_COUNT,
        maxQueueLength: maxWaiting, queueLength: line.waiting,
      };
    },
  };
}
