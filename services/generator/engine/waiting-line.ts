import { overloaded } from "#libs/errors/errors.js";

/** A place in the line. Whoever entered must leave, whatever happens. */
export interface Ticket {
  /**
   * Wait for the turn: yields the number of requests ahead, at once and whenever it changes, and ends when the turn
   * has come. @throws the signal's reason.
   */
  turn(options: { readonly signal: AbortSignal }): AsyncGenerator<number, void, undefined>;
  /** Give the place up; the next one moves on. Calling it again does nothing. */
  leave(): void;
}

/** First come, first served; one at a time; refuses at the door when too many wait. */
export class WaitingLine {
  readonly #maxWaiting: number;
  readonly #tickets: WaitingTicket[] = [];
  /** Mean time a turn takes, in milliseconds, recent turns counting more. */
  #meanTurnMs = 1000;

  /** @param maxWaiting requests that may wait behind the one at work, >= 0. */
  constructor(maxWaiting: number) {
    this.#maxWaiting = maxWaiting;
  }

  /** Requests waiting behind the one at work. */
  get waiting(): number {
    return Math.max(0, this.#tickets.length - 1);
  }

  /** @throws AppError "overloaded", with the time until a place is likely to be free. */
  enter(): Ticket {
    if (this.#tickets.length > this.#maxWaiting) {
      throw overloaded(`the queue is full: ${this.waiting} requests wait`, Math.ceil(this.#meanTurnMs));
    }
    const ticket = new WaitingTicket(this.#tickets, (turnMs) => {
      if (turnMs !== undefined) this.#meanTurnMs += 0.2 * (turnMs - this.#meanTurnMs);
    });
    this.#tickets.push(ticket);
    return ticket;
  }
}

class WaitingTicket implements Ticket {
  readonly #tickets: WaitingTicket[];
  readonly #onLeave: (turnMs: number | undefined) => void;
  #turnStartedAt: number | undefined;
  #wake: () => void = () => {};

  constructor(tickets: WaitingTicket[], onLeave: (turnMs: number | undefined) => void) {
    this.#tickets = tickets;
    this.#onLeave = onLeave;
  }

  async *turn({ signal }: { readonly signal: AbortSignal }): AsyncGenerator<number, void, undefined> {
    for (;;) {
      signal.throwIfAborted();
      const ahead = this.#tickets.indexOf(this);
      if (ahead === 0) break;
      const moved = new Promise<void>((resolve) => (this.#wake = resolve));
      yield ahead;
      signal.throwIfAborted();
      if (this.#tickets.indexOf(this) !== ahead) continue;
      const wake = this.#wake;
      signal.addEventListener("abort", wake, { once: true });
      await moved;
      signal.removeEventListener("abort", wake);
    }
    this.#turnStartedAt = performance.now();
  }

  leave(): void {
    const place = this.#tickets.indexOf(this);
    if (place < 0) return;
    this.#tickets.splice(place, 1);
    this.#onLeave(this.#turnStartedAt === undefined ? undefined : performance.now() - this.#turnStartedAt);
    for (const ticket of this.#tickets) ticket.#wake();
  }
}
