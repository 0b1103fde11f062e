import assert from "node:assert/strict";
import { test } from "node:test";
import { cancelled } from "#libs/errors/errors.js";
import { submit } from "#test/doubles/engine-run.js";
import { FAKE_LAYOUT, FakeModel } from "#test/doubles/fake-model.js";
import { Engine } from "./engine.js";

/** Room for two guided images. */
const newEngine = (maxWaiting: number): Engine => (
  new Engine(new FakeModel(), { maxRows: 4, maxRowPositions: FAKE_LAYOUT.maxPositions, maxWaiting })
);

test("requests that come between two steps and find room need no place in the queue", async () => {
  const engine = newEngine(0);
  submit(engine);
  submit(engine);
  assert.throws(() => submit(engine), { kind: "overloaded", message: /0 requests wait/ });
  await engine.step();
  assert.throws(() => submit(engine), { kind: "overloaded" });
  assert.equal(engine.snapshot.running, 2);
});

test("what has been given up counts neither as waiting nor as work ahead, even before the next step", async () => {
  const engine = newEngine(1);
  const [running, , waiting] = [0, 1, 2].map(() => submit(engine));
  await engine.step();
  engine.abort(waiting.id, cancelled());
  const second = submit(engine);
  assert.throws(() => submit(engine), { kind: "overloaded", message: /1 requests wait/ });
  engine.abort(running.id, cancelled());
  assert.equal(engine.snapshot.estimatedStartMs > 0, true, "the row that comes free goes to the one that waits");
  engine.abort(second.id, cancelled());
  assert.equal(engine.snapshot.estimatedStartMs, 0);
});

test("the time of an urgent request does not count the work of those that give way to it", async () => {
  const engine = newEngine(8);
  [0, 1].forEach(() => submit(engine));
  await engine.step();
  const expectedMs = (priority: "normal" | "high"): number => {
    let told: RegExpExecArray | null = null;
    assert.throws(() => submit(engine, { priority, deadline: 0 }), ({ message }: Error) => {
      told = /expected in (\d+) ms/.exec(message);
      return told !== null;
    });
    return Number(told![1]);
  };
  const { imageTokenCount } = FAKE_LAYOUT;
  const ratio = expectedMs("normal") / expectedMs("high");
  assert.ok(Math.abs(ratio - (2 * imageTokenCount - 1) / imageTokenCount) < 0.3, `${ratio}`);
});

test("an urgent request that takes others' rows needs no place in the queue", async () => {
  const engine = newEngine(0);
  const two = submit(engine, { images: [0, 1].map((imageIndex) => ({ imageIndex, prefix: [] })) });
  await engine.step();
  assert.throws(() => submit(engine), { kind: "overloaded" });
  const urgent = submit(engine, { priority: "high" });
  await engine.step();
  assert.equal(engine.snapshot.counters.preemptions + engine.snapshot.waiting, 1);
  while (!engine.isIdle) await engine.step();
  assert.equal(urgent.tokens().length, FAKE_LAYOUT.imageTokenCount);
  assert.equal(two.timings(0).preemptions + two.timings(1).preemptions, 1);
  assert.deepEqual(engine.checkInvariants(), []);
});
