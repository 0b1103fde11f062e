import assert from "node:assert/strict";
import { test } from "node:test";
import { EventRace } from "./event-race.js";

const NEVER = new AbortController().signal;

async function collect<T>(all: AsyncIterable<T>): Promise<readonly T[]> {
  const items: T[] = [];
  for await (const item of all) items.push(item);
  return items;
}

/** A stream of numbers that ends with the signal, and notes how it was left. */
async function* count(to: number, signal: AbortSignal, notes: string[]): AsyncGenerator<number> {
  try {
    for (let i = 0; i < to; i++) yield i;
  } finally {
    notes.push(signal.aborted ? "cancelled" : "through");
  }
}

test("events and the work they set off are answered as they come, until both are through", async () => {
  const notes: string[] = [];
  const race = new EventRace<number, string>();
  const answers = await collect(race.run(NEVER, (signal) => count(3, signal, notes), {
    *event(event) {
      race.add(Promise.resolve(`work ${event}`));
      yield `event ${event}`;
    },
    *work(done) {
      yield done;
    },
  }));
  assert.deepEqual(answers.toSorted(), ["event 0", "event 1", "event 2", "work 0", "work 1", "work 2"]);
  assert.deepEqual(notes, ["through"]);
});

test("a consumer that leaves cancels the stream and waits for the work", async () => {
  const notes: string[] = [];
  const race = new EventRace<number, void>();
  const opened: AbortSignal[] = [];
  const answers = race.run(NEVER, (signal) => (opened.push(signal), count(1000, signal, notes)), {
    *event(event) {
      race.add(new Promise<void>((resolve) => {
        opened[0].addEventListener("abort", () => (notes.push(`work ${event} stops`), resolve()));
      }));
      yield event;
    },
    work: () => [],
  });
  for await (const event of answers) if (event === 1) break;
  assert.deepEqual(notes.toSorted(), ["cancelled", "work 0 stops", "work 1 stops"]);
});

test("work that fails ends the iteration with its error, and the stream with it", async () => {
  const notes: string[] = [];
  const race = new EventRace<number, void>();
  const answers = race.run(NEVER, (signal) => count(1000, signal, notes), {
    event: (event) => {
      if (event === 2) race.add(Promise.reject(new Error("no picture")));
      return [];
    },
    work: () => [],
  });
  await assert.rejects(collect(answers), /no picture/);
  assert.deepEqual(notes, ["cancelled"]);
});

test("the signal ends with the caller's", async () => {
  const caller = new AbortController();
  const race = new EventRace<never, void>();
  const answers = collect(race.run(caller.signal, (signal) => ({
    next: () => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("left")))),
  }), { event: () => [], work: () => [] }));
  caller.abort();
  await assert.rejects(answers, /left/);
});
