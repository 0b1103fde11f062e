import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace } from "./pace.js";

function after(pace: Pace, pieces: number, milliseconds: number): Pace {
  for (let i = 0; i < pieces; i++) pace.observe(milliseconds, 0.02);
  return pace;
}

test("it follows a speed that lasts", () => {
  assert.ok(Math.abs(after(new Pace(2), 300, 20).likely - 20) < 0.2);
  assert.ok(Math.abs(after(new Pace(20), 500, 2).likely - 2) < 0.02);
});

test("a process that stood still for half a minute hardly counts", () => {
  const pace = after(new Pace(2), 50, 2);
  pace.observe(30_000, 0.02);
  assert.ok(pace.likely <= 2.05, `${pace.likely}`);
});

test("an hour of load leaves the best as it was, and a faster machine makes it better", () => {
  const pace = after(new Pace(2), 1000, 50);
  assert.ok(pace.likely > 49);
  assert.equal(pace.best, 2);
  assert.ok(after(pace, 1000, 1).best < 1.01);
});
