/** Lets so many through in a period, any of them at once, and refills evenly. */
export class TokenBucket {
  readonly #capacity: number;
  readonly #msPerToken: number;
  readonly #now: () => number;
  #tokens: number;
  #at: number;

  /**
   * @param capacity per period; 0 for no limit.
   * @param periodMs in milliseconds.
   * @param now a clock in milliseconds that never goes back.
   */
  constructor(capacity: number, periodMs: number, now: () => number) {
    this.#capacity = capacity;
    this.#msPerToken = periodMs / capacity;
    this.#now = now;
    this.#tokens = capacity;
    this.#at = now();
  }

  /** Take one. @returns 0 if there was one, else the milliseconds until there is. */
  take(): number {
    if (this.#capacity === 0) return 0;
    const now = this.#now();
    this.#tokens = Math.min(this.#capacity, this.#tokens + (now - this.#at) / this.#msPerToken);
    this.#at = now;
    if (this.#tokens < 1) return Math.ceil((1 - this.#tokens) * this.#msPerToken);
    this.#tokens--;
    return 0;
  }
}
