import assert from "node:assert/strict";
import { test } from "node:test";
import { Race } from "./race.js";

test("whoever settles first is taken first, each once", async () => {
  const race = new Race<string>();
  let release: (value: string) => void = () => {};
  race.add(new Promise((resolve) => (release = resolve)));
  race.add(Promise.resolve("fast"));
  assert.equal(race.size, 2);
  assert.equal(await race.next(), "fast");
  release("slow");
  assert.equal(await race.next(), "slow");
  assert.equal(race.size, 0);
});

test("of several that have settled the first added is taken first", async () => {
  const race = new Race<number>();
  for (const value of [1, 2, 3]) race.add(Promise.resolve(value));
  await race.settled();
  assert.deepEqual([await race.next(), await race.next(), await race.next()], [1, 2, 3]);
});

test("a rejection reaches its taker once and leaves the others in the race", async () => {
  const race = new Race<string>();
  race.add(Promise.reject(new Error("lost")));
  race.add(Promise.resolve("won"));
  await race.settled();
  await assert.rejects(race.next(), /lost/);
  assert.equal(await race.next(), "won");
  race.add(Promise.reject(new Error("never taken, never unhandled")));
  await race.settled();
});
