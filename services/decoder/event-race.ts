import { linkSignals } from "#libs/rpc/signals.js";
import { Race } from "./race.js";

/** What to answer to each event of a stream, and to each piece of work that is done. */
export interface EventHandlers<Event, Work, Response> {
  event(event: Event): Iterable<Response>;
  work(done: Work): Iterable<Response>;
}

/**
 * A stream of events and the work that they set off, all under way at once; whatever happens first is handled first. The next
 * event is asked for once the last one has been handled, so that work never holds up the stream; a slow consumer holds up
 * all of it and loses nothing.
 */
export class EventRace<Event, Work> {
  readonly #race = new Race<{ readonly result: IteratorResult<Event, unknown> } | { readonly done: Work }>();

  /** Let some work take part. It must end when the signal that the stream is opened with does. */
  add(work: Promise<Work>): void {
    this.#race.add(work.then((done) => ({ done })));
  }

  /**
   * All answers, until the stream and the work are through. When the iteration ends, for whatever reason, the stream is
   * cancelled and no work is left. Iterate once.
   * @param open begins the stream; its signal ends with `caller` and with the iteration.
   * @throws what the stream, the work or a handler throws.
   */
  async *run<Response>(
    caller: AbortSignal, open: (signal: AbortSignal) => AsyncIterator<Event, unknown>, handlers: EventHandlers<Event, Work, Response>,
  ): AsyncGenerator<Response> {
    const stop = new AbortController();
    const { signal, release } = linkSignals([caller, stop.signal], Infinity);
    const events = open(signal);
    const awaitEvent = (): void => this.#race.add(events.next().then((result) => ({ result })));
    try {
      awaitEvent();
      while (this.#race.size > 0) {
        const first = await this.#race.next();
        if ("done" in first) yield* handlers.work(first.done);
        else if (!first.result.done) {
          yield* handlers.event(first.result.value);
          awaitEvent();
        }
      }
    } finally {
      stop.abort();
      // A stream between two events is only told by `return`, one inside an event only by the signal.
      await Promise.allSettled([this.#race.settled(), events.return?.()]);
      release();
    }
  }
}
