import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { context, type Context } from "@opentelemetry/api";
import type { StageBundle } from "#libs/bundle/bundle.js";
import { stageTokenCount } from "#libs/bundle/stage-manifest.js";
import { AppError, cancelled, invalidFields, invalidRequest, unsupported } from "#libs/errors/errors.js";
import { stageGuidance } from "#libs/flow/schedule.js";
import type { CallContext, ServiceClient, ServiceImplementation } from "#libs/rpc/definition.js";
import type {
  GenerateStagesRequest, GenerateStagesResponseSchema, GeneratorService, TokenMapSchema,
} from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { EncodeResponse, TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { FinishReason } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import { recordDuration } from "#libs/telemetry/metrics.js";
import { METRICS } from "#libs/telemetry/names.js";
import { bytesOfFloats } from "#libs/tensor/float-bytes.js";
import { CallMetrics } from "./call-metrics.js";
import { encodePrompts } from "./encode-prompts.js";
import { ImageSpans } from "./image-spans.js";
import { validateLatent, validateStageGeneration, type ValidStageGeneration } from "./stage-validate.js";
import type { StageEngine, StageLimits } from "./stages/stage-engine.js";
import type { StageEvent, StageMapEvent } from "./stages/stage-generation.js";
import type { StageJob } from "./stages/stage-job.js";

/** How long the end of the requests may be the first that is seen of a call's end. */
const END_GRACE_MS = 500;

type Response = MessageInitShape<typeof GenerateStagesResponseSchema>;

/** What the service works with; all of it stays the caller's to close. */
export interface StageGeneratorParts {
  readonly bundle: StageBundle;
  readonly engine: StageEngine;
  /** What the engine may hold. */
  readonly limits: StageLimits;
  readonly tokenizer: ServiceClient<typeof TokenizerService>;
}

/** One GenerateStages call: latents come in while maps go out. */
class StageCall {
  readonly #parts: StageGeneratorParts;
  readonly #requests: AsyncIterator<GenerateStagesRequest>;
  readonly #signal: AbortSignal;
  readonly #deadline: number;
  /** Parent of all spans: `yield` loses the active context. */
  readonly #parent: Context = context.active();
  readonly #arrivedAt = performance.now();

  constructor(parts: StageGeneratorParts, requests: AsyncIterable<GenerateStagesRequest>, { signal, deadline }: CallContext) {
    this.#parts = parts;
    this.#requests = requests[Symbol.asyncIterator]();
    this.#signal = signal;
    this.#deadline = deadline;
  }

  /** Everything that the call answers. When the iteration ends, for whatever reason, the slots are free. */
  async *responses(): AsyncGenerator<Response> {
    const { bundle } = this.#parts;
    const { tokenMapChannels } = bundle.manifest.transformer;
    const metrics = new CallMetrics(this.#arrivedAt);
    let spans: ImageSpans | undefined;
    let failure: unknown = cancelled();
    try {
      const valid = validateStageGeneration(await this.#generation(), bundle.manifest);
      const encoded = await encodePrompts(this.#parts, valid, { signal: this.#signal, deadline: this.#deadline, parent: this.#parent });
      const tokenizeMs = performance.now() - this.#arrivedAt;
      spans = new ImageSpans(this.#parent);
      metrics.submitted();
      let isStarted = false;
      for await (const event of this.#events(valid, encoded)) {
        note(event, event.type === "map" ? event.conditional.length / tokenMapChannels : 0, metrics, spans);
        if (event.type !== "started") yield this.#response(event, valid, tokenizeMs);
        else if (!isStarted) {
          isStarted = true;
          yield { event: { case: "started", value: this.#started(valid, encoded) } };
        }
      }
      failure = undefined;
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      spans?.end(failure);
      metrics.end(failure === undefined ? undefined : AppError.from(failure).kind);
    }
  }

  /** The first message. */
  async #generation(): Promise<Parameters<typeof validateStageGeneration>[0]> {
    const first = await this.#next();
    if (first?.message.case !== "generation") throw invalidRequest("generation", "the first message");
    return first.message.value;
  }

  /** The next message; undefined at the end. @throws the signal's reason when it aborts first. */
  async #next(): Promise<GenerateStagesRequest | undefined> {
    const signal = this.#signal;
    let leave: (() => void) | undefined;
    const aborts = new Promise<never>((_, reject) => {
      leave = () => reject(signal.reason);
      if (signal.aborted) leave();
      else signal.addEventListener("abort", leave, { once: true });
    });
    try {
      const result = await Promise.race([this.#requests.next(), aborts]);
      return result.done ? undefined : result.value;
    } finally {
      signal.removeEventListener("abort", leave!);
    }
  }

  async *#events(valid: ValidStageGeneration, { promptTokens, negativePromptTokens }: EncodeResponse): AsyncGenerator<StageEvent> {
    const { engine } = this.#parts;
    const signal = this.#signal;
    signal.throwIfAborted();
    const job = engine.submit({ ...valid, promptTokens, negativePromptTokens, deadline: this.#deadline });
    let leftAt: number | undefined;
    const leave = (): void => {
      leftAt = performance.now();
      engine.leave(job, AppError.from(signal.reason));
    };
    signal.addEventListener("abort", leave, { once: true });
    void this.#takeLatents(job).catch((error: unknown) => engine.leave(job, AppError.from(error)));
    try {
      yield* job.events();
    } finally {
      signal.removeEventListener("abort", leave);
      engine.leave(job, cancelled());
      if (leftAt !== undefined) recordDuration(METRICS.cancelRelease, performance.now() - leftAt);
    }
  }

  async #takeLatents(job: StageJob): Promise<void> {
    const { engine } = this.#parts;
    for (let request = await this.#next(); request !== undefined; request = await this.#next()) {
      if (job.isOver) return;
      const { message } = request;
      if (message.case !== "latent") throw invalidFields([{ field: "latent", description: "must be set in every message but the first" }]);
      const { imageIndex } = message.value;
      engine.deliver(job, imageIndex, validateLatent(message.value, job.images.length, engine.awaited(job, imageIndex)));
    }
    const missing = job.images.find(({ status, latentCount }) => status !== "over" && latentCount < engine.layout.latents.length - 1);
    if (missing === undefined) return;
    // A caller that leaves, or has run out of time, ends its requests too, a moment before that is known here.
    await sleep(END_GRACE_MS, undefined, { signal: this.#signal }).catch(() => {});
    if (!this.#signal.aborted) {
      throw invalidRequest("latent", `sent for every map but the last stage's; the requests ended before that of image ${missing.imageIndex}`);
    }
  }

  #started(valid: ValidStageGeneration, { promptTokens, negativePromptTokens }: EncodeResponse) {
    const { guidanceScale, seed, imageCount } = valid;
    return {
      model: modelInfoOf(this.#parts.bundle),
      settings: { guidanceScale, seed, imageCount },
      promptTokenCount: promptTokens.length,
      negativePromptTokenCount: guidanceScale === 1 ? 0 : negativePromptTokens.length,
      imageTokenCount: this.#tokenCount,
    };
  }

  #response(event: Exclude<StageEvent, { readonly type: "started" }>, { guidanceScale }: ValidStageGeneration, tokenizeMs: number): Response {
    if (event.type === "queued") {
      const { position, estimatedStartMs } = event;
      return { event: { case: "queued", value: { position, estimatedStartMs } } };
    }
    if (event.type === "map") return { event: { case: "tokenMap", value: this.#tokenMap(event, guidanceScale) } };
    const { imageIndex } = event;
    const timings = { tokenizeMs, ...event.timings };
    const value = { imageIndex, finishReason: FinishReason.COMPLETE, tokenCount: this.#tokenCount, timings };
    return { event: { case: "imageFinished", value } };
  }

  #tokenMap({ imageIndex, stage, conditional, unconditional }: StageMapEvent, guidanceScale: number): MessageInitShape<typeof TokenMapSchema> {
    const { stages, transformer: { tokenMapChannels: channels } } = this.#parts.bundle.manifest;
    const { height, width, guidanceShare } = stages[stage];
    const isGuided = unconditional !== undefined && stageGuidance(guidanceScale, guidanceShare) !== 1;
    return {
      imageIndex, stage, height, width, channels, values: bytesOfFloats(conditional),
      ...(isGuided && { unconditionalValues: bytesOfFloats(unconditional) }),
    };
  }

  get #tokenCount(): number {
    return stageTokenCount(this.#parts.bundle.manifest.stages);
  }
}

/** The first stage's pass is the one over the prompts. */
function note(event: StageEvent, cells: number, metrics: CallMetrics, spans: ImageSpans): void {
  if (event.type !== "map") {
    metrics.note(event);
    spans.note(event);
    return;
  }
  const { imageIndex, stage } = event;
  if (stage === 0) spans.note({ type: "prefilled", imageIndex });
  metrics.made(imageIndex, cells);
}

/** The calls of GeneratorService over a stage engine. */
export function stageGeneratorService(parts: StageGeneratorParts): ServiceImplementation<typeof GeneratorService> {
  const { bundle, engine, limits: { maxRunning, maxWaiting } } = parts;
  return {
    generate() {
      throw unsupported(`${bundle.manifest.name} has continuous tokens: use GenerateStages`);
    },
    async *generateStages(requests: AsyncIterable<GenerateStagesRequest>, call: CallContext) {
      yield* new StageCall(parts, requests, call).responses();
    },
    async getGeneratorInfo(_request, { limits }: CallContext) {
      const { waitingRequests, running } = engine.snapshot;
      return {
        model: modelInfoOf(bundle), defaults: bundle.manifest.defaults, maxImageCount: MAX_IMAGE_COUNT, maxQueueLength: maxWaiting,
        queueLength: waitingRequests, maxRunning, running, kvCacheUsage: running / maxRunning, limits,
      };
    },
  };
}
