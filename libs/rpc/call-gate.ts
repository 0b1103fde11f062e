import { notReady } from "#libs/errors/errors.js";

/** Lets calls into a server and knows how many are inside. Opened when the service is ready, closed for good by a stop. */
export class CallGate {
  #state: "loading" | "open" | "closed" = "loading";
  #active = 0;
  #becameEmpty: () => void = () => {};
  readonly #abort = new AbortController();

  /** Fires when the calls that are still inside must end now. */
  get abortSignal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Whether the gate was closed for good. */
  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Let calls in, or hold them off again while loading. A closed gate stays closed. */
  setOpen(open: boolean): void {
    if (this.#state !== "closed") this.#state = open ? "open" : "loading";
  }

  /**
   * Come in.
   * @returns call it once to leave.
   * @throws AppError `not-ready` while the gate is not open.
   */
  enter(): () => void {
    if (this.#state !== "open") {
      throw notReady(this.#state === "loading" ? "the service is loading" : "the service is stopping");
    }
    this.#active++;
    return () => {
      if (--this.#active === 0) this.#becameEmpty();
    };
  }

  /** Let nobody in any more. Settles when everyone has left. */
  close(): Promise<void> {
    this.#state = "closed";
    if (this.#active === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#becameEmpty = resolve;
    });
  }

  /** Tell everyone inside to leave. */
  abort(): void {
    this.#abort.abort(notReady("the service is stopping"));
  }
}
