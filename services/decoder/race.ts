/**
 * Promises under way, taken in the order in which they settle; of several that have settled, the first added is taken
 * first. A rejection reaches whoever takes it, and never goes unhandled.
 */
export class Race<T> {
  readonly #entries = new Set<Promise<{ readonly taken: () => T }>>();

  /** How many have not been taken. */
  get size(): number {
    return this.#entries.size;
  }

  add(promise: Promise<T>): void {
    const entry = promise.then(
      (value) => ({ taken: () => value }),
      (error: unknown) => ({ taken: () => { throw error; } }),
    ).then(({ taken }) => ({ taken: () => (this.#entries.delete(entry), taken()) }));
    this.#entries.add(entry);
  }

  /** The result of the next one to settle, which leaves the race. Call it only while `size` > 0. */
  async next(): Promise<T> {
    return (await Promise.race(this.#entries)).taken();
  }

  /** Settles once all have settled; never rejects. */
  async settled(): Promise<void> {
    await Promise.all(this.#entries);
  }
}
