/** What is to be sent on a stream of requests, in order. Iterate once. */
export class Outbox<T> {
  readonly #waiting: T[] = [];
  #isClosed = false;
  #wake: () => void = () => {};

  put(value: T): void {
    this.#waiting.push(value);
    this.#wake();
  }

  /** There is no more to come. */
  close(): void {
    this.#isClosed = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      while (this.#waiting.length > 0) yield this.#waiting.shift()!;
      if (this.#isClosed) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
