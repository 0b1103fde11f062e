import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";
import { cancelled } from "#libs/errors/errors.js";
import { latentSize } from "#libs/flow/latent.js";
import { FAKE_STAGE_LAYOUT, FakeStageModel } from "#test/doubles/fake-stage-model.js";
import { StageEngine, type StageLimits } from "./stage-engine.js";
import type { StageEvent, StageRequest } from "./stage-generation.js";
import type { StageJob } from "./stage-job.js";

const LIMITS: StageLimits = { maxRunning: 4, maxWaiting: 2, latentTimeoutMs: 60_000 };
const REQUEST: StageRequest = {
  promptTokens: [1, 2, 3], negativePromptTokens: [1, 3], guidanceScale: 2, imageCount: 1, priority: "normal", deadline: Infinity,
};

function newEngine(limits: Partial<StageLimits> = {}, model = new FakeStageModel()): { readonly engine: StageEngine; readonly model: FakeStageModel } {
  return { engine: new StageEngine(model, { ...LIMITS, ...limits }), model };
}

const latentAt = (stage: number, value: number) => (
  { ...FAKE_STAGE_LAYOUT.latents[stage], values: new Float32Array(latentSize(FAKE_STAGE_LAYOUT.latents[stage])).fill(value) }
);

/** Go through a request, answering each map by a latent of its image and stage. */
async function run(engine: StageEngine, job: StageJob, until: (event: StageEvent) => boolean = () => false): Promise<StageEvent[]> {
  const events: StageEvent[] = [];
  for await (const event of job.events()) {
    events.push(event);
    if (until(event)) break;
    if (event.type === "map" && event.stage < 2) engine.deliver(job, event.imageIndex, latentAt(event.stage, event.imageIndex + 10));
  }
  return events;
}

const maps = (events: readonly StageEvent[], imageIndex = 0): number[] =>
  events.flatMap((event) => (event.type === "map" && event.imageIndex === imageIndex ? [event.conditional[0]] : []));

test("an image starts, gets a map a stage, each after its latent, and finishes", async () => {
  const { engine, model } = newEngine();
  const events = await run(engine, engine.submit(REQUEST));
  assert.deepEqual(events.map((event) => event.type), ["started", "map", "map", "map", "finished"]);
  assert.deepEqual(model.passes, [[0, 2], [1, 2], [2, 2]]);
  const sizes = events.flatMap((event) => (event.type === "map" ? [[event.conditional.length, event.unconditional?.length]] : []));
  assert.deepEqual(sizes, [[2, 2], [8, 8], [32, 32]]);
  const last = events.at(-1)!;
  assert.ok(last.type === "finished" && last.timings.decodeSteps === 2);
  assert.deepEqual(engine.snapshot, { waitingRequests: 0, waiting: 0, running: 0, waitingTokens: 0 });
});

test("guidance off runs one branch; equal prompts at the first stage are one row", async () => {
  const { engine, model } = newEngine();
  const events = await run(engine, engine.submit({ ...REQUEST, guidanceScale: 1 }));
  assert.ok(events.every((event) => event.type !== "map" || event.unconditional === undefined));
  assert.deepEqual(model.passes, [[0, 1], [1, 1], [2, 1]]);
  model.passes.length = 0;
  await run(engine, engine.submit({ ...REQUEST, imageCount: 3 }));
  assert.equal(model.passes.find(([stage]) => stage === 0)![1], 2);
});

test("requests at one stage share a pass, those at others do not, and every map is what it is alone", async () => {
  const alone = new Map<number, number[]>();
  for (const token of [4, 5, 6]) {
    const { engine } = newEngine();
    alone.set(token, maps(await run(engine, engine.submit({ ...REQUEST, promptTokens: [token] }))));
  }
  const { engine, model } = newEngine();
  const early = engine.submit({ ...REQUEST, promptTokens: [4] });
  const head = await run(engine, early, ({ type }) => type === "map");
  const others = [5, 6].map((token) => engine.submit({ ...REQUEST, promptTokens: [token] }));
  engine.deliver(early, 0, latentAt(0, 10));
  const [rest, ...both] = await Promise.all([run(engine, early), ...others.map((job) => run(engine, job))]);
  assert.deepEqual([...maps(head), ...maps(rest)], alone.get(4));
  assert.deepEqual(both.map((events) => maps(events)), [alone.get(5), alone.get(6)]);
  // The two that came together share the unconditional row at the first stage, and their passes at the others.
  assert.ok(model.passes.some(([stage, rows]) => stage === 0 && rows === 3), JSON.stringify(model.passes));
  assert.ok(model.passes.some(([stage, rows]) => stage > 0 && rows >= 4), JSON.stringify(model.passes));
});

test("beyond the slots requests wait and hear their place; beyond the queue they are refused with a delay", async () => {
  const { engine } = newEngine({ maxRunning: 1 });
  const first = engine.submit(REQUEST);
  const second = engine.submit(REQUEST);
  const third = engine.submit(REQUEST);
  assert.equal(engine.snapshot.waitingRequests, 2);
  assert.throws(() => engine.submit(REQUEST), (error: { kind: string; retryDelayMs: number }) =>
    error.kind === "overloaded" && error.retryDelayMs > 0);
  const [, ...events] = await Promise.all([run(engine, first), run(engine, second), run(engine, third)]);
  const places = events.map((list) => list.flatMap((event) => (event.type === "queued" ? [event.position] : [])));
  assert.deepEqual(places, [[1], [2, 1]]);
});

test("the urgent come first, in the queue and among what is ready", async () => {
  const { engine, model } = newEngine({ maxRunning: 1, maxWaiting: 9 });
  const started: string[] = [];
  const running = engine.submit(REQUEST);
  const note = async (name: string, job: StageJob): Promise<void> => {
    await run(engine, job);
    started.push(name);
  };
  const jobs = (["low", "normal", "high"] as const).map((priority) => note(priority, engine.submit({ ...REQUEST, priority })));
  await Promise.all([run(engine, running), ...jobs]);
  assert.deepEqual(started, ["high", "normal", "low"]);
  assert.equal(model.passes.length, 12);
});

/** What two jobs give, each with the place in which it ended. */
async function race(engine: StageEngine, jobs: readonly StageJob[]): Promise<readonly { readonly events: StageEvent[]; readonly place: number }[]> {
  let ended = 0;
  return Promise.all(jobs.map(async (job) => ({ events: await run(engine, job), place: ended++ })));
}

for (const where of ["awaits its latent", "is ready", "is in a pass"] as const) {
  test(`an urgent image takes the slot of a lesser one that ${where}, which ends in the very same maps`, async () => {
    const calm = newEngine();
    const expected = maps(await run(calm.engine, calm.engine.submit(REQUEST)));
    // After the last pass there is nothing left to take.
    for (const stage of where === "is in a pass" ? [0] : [0, 1]) {
      const { engine, model } = newEngine({ maxRunning: 1 });
      const lesser = engine.submit(REQUEST);
      const head = await run(engine, lesser, (event) => event.type === "map" && event.stage === stage);
      const answer = (): void => engine.deliver(lesser, 0, latentAt(stage, 10));
      const submit = (): StageJob => engine.submit({ ...REQUEST, promptTokens: [9], priority: "high" });
      const inside = new Promise<StageJob>((resolve) => (model.hold = async () => void resolve(submit())));
      if (where !== "awaits its latent") answer();
      const urgent = where === "is in a pass" ? await inside : submit();
      model.hold = async () => {};
      if (where === "awaits its latent") answer();
      const [late, early] = await race(engine, [lesser, urgent]);
      assert.deepEqual([early.place, late.place], [0, 1]);
      assert.deepEqual([...maps(head), ...maps(late.events)], expected);
      const end = late.events.at(-1)!;
      assert.ok(end.type === "finished" && end.timings.preemptions === 1);
      assert.ok(late.events.every(({ type }) => type === "map" || type === "finished"), "it is told of nothing else");
    }
  });
}

test("an image of the same class waits until the slot is free", async () => {
  const { engine } = newEngine({ maxRunning: 1 });
  const first = engine.submit(REQUEST);
  await run(engine, first, ({ type }) => type === "map");
  const second = engine.submit(REQUEST);
  engine.deliver(first, 0, latentAt(0, 10));
  assert.deepEqual((await race(engine, [second, first])).map(({ place }) => place), [1, 0]);
});

test("whoever leaves frees the slot at once, at every stage, waiting for a latent or inside a pass", async () => {
  for (const stage of [0, 1, 2]) {
    for (const where of ["awaiting", "passing"] as const) {
      if (stage === 2 && where === "awaiting") continue;
      const { engine, model } = newEngine({ maxRunning: 1 });
      let inside: () => void = () => {};
      let open: () => void = () => {};
      const entered = new Promise<void>((resolve) => (inside = resolve));
      const held = new Promise<void>((resolve) => (open = resolve));
      model.hold = async (at) => {
        if (at !== stage || where !== "passing") return;
        inside();
        await held;
      };
      const leaving = engine.submit(REQUEST);
      const next = engine.submit(REQUEST);
      const going = run(engine, leaving, (event) => where === "awaiting" && event.type === "map" && event.stage === stage);
      if (where === "passing") await entered;
      else await going;
      engine.leave(leaving, cancelled());
      assert.equal(engine.snapshot.running, 1, `${where} at ${stage}`);
      assert.equal(engine.snapshot.waiting, 0, "the next one has the slot");
      model.hold = async () => {};
      open();
      if (where === "passing") await assert.rejects(going, { kind: "cancelled" });
      assert.equal((await run(engine, next)).at(-1)!.type, "finished");
      assert.equal(engine.snapshot.running, 0);
    }
  }
});

test("a latent that nobody awaits is our own error; what is awaited can be asked", async () => {
  const { engine } = newEngine();
  const job = engine.submit(REQUEST);
  assert.equal(engine.awaited(job, 0), undefined);
  assert.throws(() => engine.deliver(job, 0, latentAt(0, 1)), { kind: "internal" });
  await run(engine, job, ({ type }) => type === "map");
  assert.deepEqual(engine.awaited(job, 0), { stage: 0, shape: FAKE_STAGE_LAYOUT.latents[0] });
  assert.equal(engine.awaited(job, 1), undefined);
  assert.throws(() => engine.deliver(job, 0, latentAt(1, 1)), { kind: "internal" });
  engine.deliver(job, 0, latentAt(0, 1));
  assert.throws(() => engine.deliver(job, 0, latentAt(0, 1)), { kind: "internal" });
  engine.leave(job, cancelled());
});

test("an urgent request that takes another's slot needs no place in the queue", async () => {
  const { engine } = newEngine({ maxRunning: 1, maxWaiting: 1 });
  const low = { ...REQUEST, priority: "low" } as const;
  const first = engine.submit(low);
  await run(engine, first, ({ type }) => type === "map");
  engine.submit(low);
  assert.throws(() => engine.submit(low), { kind: "overloaded", message: /1 requests wait/ });
  const urgent = engine.submit({ ...REQUEST, priority: "high" });
  assert.equal((await run(engine, urgent)).at(-1)!.type, "finished");
  engine.close();
});

test("others' slow flows turn away only who has to wait for their slots", async (t) => {
  let clock = 0;
  t.mock.method(performance, "now", () => clock);
  const { engine, model } = newEngine({ maxRunning: 2 });
  model.hold = async () => void (clock += 10);
  await engine.warmUp();
  const slow = async (): Promise<void> => {
    const job = engine.submit(REQUEST);
    for await (const event of job.events()) {
      clock += 2000;
      if (event.type === "map" && event.stage < 2) engine.deliver(job, 0, latentAt(event.stage, 1));
    }
  };
  for (let i = 0; i < 40; i++) await slow();
  const pending = engine.submit(REQUEST);
  const soon = { ...REQUEST, deadline: Date.now() + 1500 };
  assert.equal((await run(engine, engine.submit(soon))).at(-1)!.type, "finished");
  engine.submit(REQUEST);
  assert.throws(() => engine.submit(soon), { kind: "deadline-exceeded" });
  engine.leave(pending, cancelled());
  engine.close();
});

test("an image whose latent never comes loses its slot", async () => {
  const { engine } = newEngine({ maxRunning: 1, latentTimeoutMs: 1 });
  const silent = engine.submit(REQUEST);
  const next = engine.submit(REQUEST);
  const events = run(engine, silent, () => false).catch((error: unknown) => error);
  // Answers nothing.
  engine.deliver = () => {};
  // The engine's own timers keep no process alive.
  const alive = setInterval(() => {}, 1000);
  try {
    assert.equal(((await events) as { kind: string }).kind, "aborted");
    await assert.rejects(run(engine, next), { kind: "aborted" });
  } finally {
    clearInterval(alive);
  }
});

test("a pass that fails takes its requests with it and nobody else", async () => {
  const { engine, model } = newEngine();
  model.hold = async (stage) => {
    if (stage === 1) throw new Error("out of memory");
  };
  await assert.rejects(run(engine, engine.submit(REQUEST)), { kind: "aborted", message: /out of memory/ });
  model.hold = async () => {};
  assert.equal((await run(engine, engine.submit(REQUEST))).at(-1)!.type, "finished");
});

test("a deadline that can't hold is refused at once; a hung pass is seen", async () => {
  const { engine, model } = newEngine();
  let open: () => void = () => {};
  await engine.warmUp();
  assert.throws(() => engine.submit({ ...REQUEST, deadline: Date.now() - 1 }), { kind: "deadline-exceeded" });
  model.hold = () => new Promise((resolve) => (open = resolve));
  const job = engine.submit(REQUEST);
  assert.equal(engine.isStalled(0), false);
  await setImmediate();
  await setImmediate();
  assert.equal(engine.isStalled(-1), true);
  assert.equal(engine.isStalled(60_000), false);
  open();
  engine.close();
  await assert.rejects(run(engine, job), { kind: "not-ready" });
  assert.throws(() => engine.submit(REQUEST), { kind: "not-ready" });
});
