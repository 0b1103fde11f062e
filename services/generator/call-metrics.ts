import type { ErrorKind } from "#libs/errors/errors.js";
import { count, recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS } from "#libs/telemetry/names.js";
import type { GenerationEvent } from "./engine/generation.js";

/** What one Generate call adds to the metrics. */
export class CallMetrics {
  readonly #arrivedAt: number;
  #submittedAt: number | undefined;
  /** Tokens of each image so far. */
  readonly #tokens = new Map<number, number>();

  /** @param arrivedAt as in `performance.now()`. */
  constructor(arrivedAt: number) {
    this.#arrivedAt = arrivedAt;
  }

  /** From here on the engine's queue, and nobody else, keeps the request waiting. */
  submitted(): void {
    this.#submittedAt = performance.now();
  }

  note(event: GenerationEvent): void {
    if (event.type === "started" && this.#submittedAt !== undefined) {
      recordDuration(METRICS.queueTime, performance.now() - this.#submittedAt);
    }
    if (event.type === "tokens") this.made(event.imageIndex, event.tokens.length);
    if (event.type === "finished") {
      const { timings, imageIndex } = event;
      const later = Math.max(1, (this.#tokens.get(imageIndex) ?? 0) - 1);
      count(METRICS.images, 1);
      count(METRICS.specProposedTokens, timings.draftedTokens);
      count(METRICS.specAcceptedTokens, timings.acceptedTokens);
      count(METRICS.preemptions, timings.preemptions);
      count(METRICS.uncondReuseTokens, timings.reusedNegativeTokens);
      recordDuration(METRICS.timePerOutputToken, timings.decodeMs / later);
    }
  }

  /** So many more tokens of an image are there. */
  made(imageIndex: number, tokens: number): void {
    if (this.#tokens.size === 0) recordDuration(METRICS.timeToFirstToken, performance.now() - this.#arrivedAt);
    this.#tokens.set(imageIndex, (this.#tokens.get(imageIndex) ?? 0) + tokens);
    count(METRICS.imageTokens, tokens);
  }

  /** @param error the kind of the error that the call ends with, if it does. */
  end(error: ErrorKind | undefined): void {
    recordDuration(METRICS.requestDuration, performance.now() - this.#arrivedAt, error && { [ATTRIBUTES.errorType]: error });
    const isRefused = this.#submittedAt !== undefined && this.#tokens.size === 0;
    if (isRefused && error === "overloaded") count(METRICS.rejections, 1, { [ATTRIBUTES.reason]: "queue-full" });
    if (isRefused && error === "deadline-exceeded") count(METRICS.rejections, 1, { [ATTRIBUTES.reason]: "deadline" });
  }
}
