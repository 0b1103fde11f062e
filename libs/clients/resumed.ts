import { setTimeout as sleep } from "node:timers/promises";
import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { AppError, deadlineExceeded, mismatch } from "#libs/errors/errors.js";
import { earliest } from "#libs/rpc/deadline.js";
import type { CallLimits } from "#libs/rpc/definition.js";
import { STREAM_TIMEOUT_MS } from "#libs/rpc/limits.js";
import type { GenerateResponse, GenerateStagesResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { GenerationSchema, type Generation, type Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";

/** What is asked of a generator. */
export type GenerationInit = MessageInitShape<typeof GenerationSchema>;

/** How a lost generation is asked for again; the deadline, or by default `STREAM_TIMEOUT_MS`, holds for all tries together. */
export interface ResumeOptions extends CallLimits {
  /** Tries in a row that may fail before a generation is given up that has begun; each that brings tokens starts the count anew. */
  readonly maxRetries: number;
  /** The same before it has begun, when nothing is lost by giving up. */
  readonly maxFirstRetries?: number;
  /** Whether a full queue is asked again before the generation has begun; afterwards it always is, when told, until the deadline. */
  readonly waitsForQueue?: boolean;
  /** Hears of every loss after the beginning that is to be made good, with the number of image tokens at hand. */
  readonly onLoss?: (error: AppError, tokens: number) => void;
  readonly signal?: AbortSignal;
}

/** How one try is bounded. */
export type TryOptions = CallLimits & { readonly signal?: AbortSignal };

/** A generation as far as it has come. */
export interface Progress<R> {
  readonly beginning: Beginning;
  /** Image tokens that have arrived. */
  readonly tokenCount: number;
  /** Ask for what is still to come. */
  rest(options: TryOptions): AsyncIterable<R>;
  /** Whether a response of the present try tells what no try before has told; takes out of it what is known. */
  isNews(response: R): boolean;
}

/**
 * The wait before a call is made again, where the service names none. It does not grow: of several replicas the next one
 * asked may well be one that serves.
 */
const RETRY_MS = 100;

/**
 * The responses of one call, come what may: what was lost on the way, because its replica died or drained, goes on at
 * another. The responses are those of one call that nobody disturbed.
 * @throws AppError of the last try; the signal's reason.
 */
export async function* resumed<R extends GenerateResponse | GenerateStagesResponse>(
  progress: Progress<R>, options: ResumeOptions,
): AsyncGenerator<R, void, undefined> {
  const { maxRetries, maxFirstRetries = maxRetries, waitsForQueue = true, onLoss, signal } = options;
  const deadline = earliest(options, STREAM_TIMEOUT_MS);
  const call = { deadline, ...(signal && { signal }) };
  const { beginning } = progress;
  for (let retries = 0; ; ) {
    try {
      for await (const response of progress.rest(call)) {
        if (!progress.isNews(response)) continue;
        if (response.event.case === "tokenChunk" || response.event.case === "tokenMap") retries = 0;
        yield response;
      }
      return;
    } catch (thrown) {
      signal?.throwIfAborted();
      const error = AppError.from(thrown);
      const isFull = error.kind === "overloaded";
      // A begun image waits for a place as long as its caller does, if it is told how long.
      if (!isFull || !beginning.isOver || error.retryDelayMs === undefined) retries++;
      const isWorthIt = isFull ? waitsForQueue || beginning.isOver : error.kind === "not-ready" || error.kind === "aborted";
      if (!isWorthIt || retries > (beginning.isOver ? maxRetries : maxFirstRetries)) throw error;
      const delayMs = error.retryDelayMs ?? RETRY_MS;
      if (Date.now() + delayMs >= deadline) throw deadlineExceeded();
      if (beginning.isOver) onLoss?.(error, progress.tokenCount);
      await sleep(delayMs, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    }
  }
}

/** What comes before the first token of a generation: it is told once, and fixes the seed of all tries. */
export class Beginning {
  readonly #generation: Generation;
  #started: Started | undefined;

  constructor(generation: GenerationInit) {
    this.#generation = create(GenerationSchema, generation);
  }

  get isOver(): boolean {
    return this.#started !== undefined;
  }

  /** Image tokens in each image; 0 before the start. */
  get imageTokenCount(): number {
    return this.#started?.imageTokenCount ?? 0;
  }

  /** What was asked for. */
  get generation(): Generation {
    return this.#generation;
  }

  /** What to ask for now, the caller's to change: the same with the seed that is in force. */
  again(): Generation {
    const again = clone(GenerationSchema, this.#generation);
    if (this.#started !== undefined) again.seed = this.#started.settings?.seed ?? 0n;
    return again;
  }

  /** Whether a start is the first one. @throws mismatch if another model has answered than before. */
  start(started: Started): boolean {
    const isFirst = this.#started === undefined;
    this.#started ??= started;
    if (started.model?.digest === this.#started.model?.digest) return isFirst;
    throw mismatch("the generation cannot go on: another model has answered");
  }
}
