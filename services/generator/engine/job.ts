import type { AppError } from "#libs/errors/errors.js";
import type { GenerationEvent, GenerationRequest } from "./generation.js";
import type { Sequence } from "./sequence.js";

/** Tokens are handed on once this much time has passed since the last ones, so that messages stay few. */
const FLUSH_INTERVAL_MS = 50;

/** Hears what happens to a request, and at last that it has ended; with the error if it did not end well. */
export interface Listener {
  event(event: GenerationEvent): void;
  ended(error?: AppError): void;
}

/** A request in the engine: its sequences, and what its listener has heard. */
export class Job {
  readonly request: GenerationRequest;
  readonly sequences: readonly Sequence[];
  readonly #listener: Listener;
  #isStarted = false;
  #position: number | undefined;

  constructor(request: GenerationRequest, sequences: readonly Sequence[], listener: Listener) {
    this.request = request;
    this.sequences = sequences;
    this.#listener = listener;
  }

  /** Why it is to be given up, if it is. */
  abortion: AppError | undefined;

  /** Whether any of its sequences has had rows. */
  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Its place in the queue, 1 being the next, and the time until it starts; heard when the place changes. */
  queued(position: number, estimatedStartMs: () => number): void {
    if (this.#isStarted || position === this.#position) return;
    this.#position = position;
    this.#listener.event({ type: "queued", position, estimatedStartMs: estimatedStartMs() });
  }

  /** A sequence has been given rows; more than once if it had to give way. */
  started({ imageIndex, preemptions }: Sequence): void {
    this.#isStarted = true;
    if (preemptions === 0) this.#listener.event({ type: "started", imageIndex });
  }

  prefilled({ imageIndex, preemptions }: Sequence): void {
    if (preemptions === 0) this.#listener.event({ type: "prefilled", imageIndex });
  }

  /** Hand on a sequence's new tokens if it is time or if they are the last. */
  progressed(sequence: Sequence, isLast: boolean): void {
    const now = performance.now();
    if (!isLast && now - sequence.emittedAt < FLUSH_INTERVAL_MS) return;
    const tokens = sequence.tokens.slice(sequence.emitted);
    if (tokens.length === 0) return;
    this.#listener.event({ type: "tokens", imageIndex: sequence.imageIndex, offset: sequence.emitted, tokens });
    sequence.emitted = sequence.tokens.length;
    sequence.emittedAt = now;
  }

  finished({ imageIndex, timings }: Sequence): void {
    this.#listener.event({ type: "finished", imageIndex, timings });
  }

  ended(error?: AppError): void {
    this.#listener.ended(error);
  }
}
