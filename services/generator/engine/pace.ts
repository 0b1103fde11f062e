/** What took longer or shorter than expected counts as so many times at most: a process that stood still says nothing of the next step. */
const MAX_SURPRISE = 2;

/** Nothing takes less: what is bounded by its multiples could never grow out of 0. */
const LEAST_MS = 0.01;

/** How long one more piece of an image takes, in milliseconds: a token, or a stage. Learned from the pieces before. */
export class Pace {
  #likely: number;
  #best: number;

  /** @param measured beforehand, with nothing else at work. */
  constructor(measured: number) {
    this.#likely = Math.max(measured, LEAST_MS);
    this.#best = this.#likely;
  }

  /** A piece has been made. @param weight how much it counts, from 0 to 1. */
  observe(milliseconds: number, weight: number): void {
    const bounded = Math.min(this.#likely * MAX_SURPRISE, Math.max(this.#likely / MAX_SURPRISE, milliseconds));
    this.#likely += weight * (bounded - this.#likely);
    this.#best = Math.min(this.#best, this.#likely);
  }

  /** What to expect while images are at work. */
  get likely(): number {
    return this.#likely;
  }

  /**
   * The best it has been. With nothing at work only what can't hold even so may be refused: what was learned last, under load
   * or on a busy machine, may be of other times, and if it turned everyone away no piece would ever teach it better.
   */
  get best(): number {
    return this.#best;
  }
}
