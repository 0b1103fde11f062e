import type { AppError } from "#libs/errors/errors.js";

/** The replies to one request, in order, waiting to be read. At most one request's tokens ever wait here. */
export class ReplyBox<E> {
  readonly #events: E[] = [];
  #outcome: { readonly error?: AppError } | undefined;
  #wake: () => void = () => {};

  put(event: E): void {
    this.#events.push(event);
    this.#wake();
  }

  /** There is no more to come. Only the first call counts. */
  end(error?: AppError): void {
    this.#outcome ??= error === undefined ? {} : { error };
    this.#wake();
  }

  get ended(): boolean {
    return this.#outcome !== undefined;
  }

  /** The next event; undefined at the end. @throws the error that ended it. */
  async next(): Promise<E | undefined> {
    while (this.#events.length === 0 && this.#outcome === undefined) await this.#change();
    const event = this.#events.shift();
    if (event === undefined && this.#outcome?.error !== undefined) throw this.#outcome.error;
    return event;
  }

  /** Drop what comes until the end. */
  async drain(): Promise<void> {
    while (this.#outcome === undefined) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }
}
