import type { AppError } from "#libs/errors/errors.js";
import type { ModelLayout } from "./model.js";
import type { SequenceEvent, SequenceRequest } from "./sequence.js";

/** What turns prompts into image tokens; knows ids only: no text, no wire format. */
export interface Engine {
  readonly layout: ModelLayout;
  /** Settles once the engine can work no more: undefined after `close()`, the error if it died. Never rejects. */
  readonly ended: Promise<AppError | undefined>;
  /**
   * Generate one image. When the iteration ends, for whatever reason, the engine has stopped working on it.
   * @throws the signal's reason, at most one decode step after it aborts.
   */
  generate(
    request: SequenceRequest, options: { readonly signal: AbortSignal },
  ): AsyncGenerator<SequenceEvent, void, undefined>;
  /** Stop and free everything; calling it again does nothing. */
  close(): Promise<void>;
}
