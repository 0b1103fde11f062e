import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { AppError, cancelled } from "#libs/errors/errors.js";
import { Heard, runToIdle, submit } from "#test/doubles/engine-run.js";
import { FAKE_LAYOUT, FakeModel } from "#test/doubles/fake-model.js";
import { Engine, type EngineLimits } from "./engine.js";
import type { GenerationRequest } from "./generation.js";

const LIMITS: EngineLimits = { maxRows: 8, maxRowPositions: FAKE_LAYOUT.maxPositions, maxWaiting: 100 };
const TOTAL = FAKE_LAYOUT.imageTokenCount;

function newEngine(limits: Partial<EngineLimits> = {}, model = new FakeModel()): Engine {
  return new Engine(model, { ...LIMITS, ...limits });
}

/** The tokens of a request that has an engine to itself. */
async function alone(change: Partial<GenerationRequest> = {}, model = new FakeModel()): Promise<readonly number[]> {
  const engine = newEngine({}, model);
  const heard = submit(engine, change);
  await runToIdle(engine);
  assert.equal(heard.error, undefined);
  return heard.tokens();
}

test("an image is started, prefilled, streamed without gaps and finished, in this order", async () => {
  const engine = newEngine();
  const heard = submit(engine);
  await runToIdle(engine);
  const types = heard.events.map(({ type }) => type);
  assert.deepEqual(types.slice(0, 2), ["started", "prefilled"]);
  assert.equal(types.at(-1), "finished");
  assert.ok(types.slice(2, -1).every((type) => type === "tokens"));
  assert.equal(heard.tokens().length, TOTAL);
  assert.equal(heard.timings().decodeSteps, TOTAL - 1);
  assert.ok(heard.isEnded);
});

test("the same seed gives the same tokens; another seed, image or prompt gives others", async () => {
  const first = await alone();
  assert.deepEqual(await alone(), first);
  const changes: readonly Partial<GenerationRequest>[] = [
    { seed: 8n }, { seed: 7n + (1n << 32n) }, { images: [{ imageIndex: 1, prefix: [] }] },
    { negativePromptTokens: [1, 4] }, { promptTokens: [1, 2, 4] }, { guidanceScale: 3 },
  ];
  for (const change of changes) assert.notDeepEqual(await alone(change), first);
});

test("equal branches make guidance void, and scale 1 runs one row", async () => {
  const model = new FakeModel();
  const single = await alone({ guidanceScale: 1 }, model);
  assert.deepEqual(model.passes, [[1, 3], ...Array.from({ length: TOTAL - 1 }, () => [1, 1])]);
  assert.deepEqual(await alone({ negativePromptTokens: [1, 2, 3], guidanceScale: 9 }), single);
});

test("a repetition penalty makes an image of more different tokens", async () => {
  const different = async (repetitionPenalty: number) => {
    const images = await Promise.all([1n, 2n, 3n, 4n].map((seed) => alone({ seed, repetitionPenalty })));
    return images.reduce((sum, tokens) => sum + new Set(tokens).size, 0);
  };
  assert.ok(await different(100) > await different(1), `${await different(100)}, ${await different(1)}`);
});

test("temperature 0 ignores the seed, and so does top-k 1", async () => {
  const greedy = await alone({ temperature: 0 });
  assert.deepEqual(await alone({ temperature: 0, seed: 99n }), greedy);
  assert.deepEqual(await alone({ topK: 1, seed: 99n }), greedy);
  assert.deepEqual(await alone({ topP: 1e-6, seed: 99n }), greedy);
});

test("equal prompts are prefilled once, whoever asks for them", async () => {
  const model = new FakeModel();
  const engine = newEngine({}, model);
  submit(engine, { images: [0, 1, 2, 3].map((imageIndex) => ({ imageIndex, prefix: [] })) });
  await runToIdle(engine);
  const later = submit(engine, { promptTokens: [5, 6] });
  await runToIdle(engine);
  assert.deepEqual(model.passes.filter(([, positions]) => positions > 1), [[1, 3], [1, 2], [1, 2]]);
  assert.equal(later.timings().reusedPromptTokens, 0);
  assert.equal(later.timings().reusedNegativeTokens, 2);
});

test("a long prompt goes through prefill in pieces while others decode", async () => {
  const layout = { ...FAKE_LAYOUT, imageTokenCount: 64, maxPositions: 300 };
  const model = new FakeModel({ layout });
  const engine = newEngine({ maxRowPositions: 300 }, model);
  submit(engine);
  for (let i = 0; i < 3; i++) await engine.step();
  model.passes.length = 0;
  submit(engine, { promptTokens: Array.from({ length: 200 }, (_, i) => i) });
  await engine.step();
  assert.deepEqual(model.passes, [[1, 32], [1, 32], [2, 1]]);
  await runToIdle(engine);
});

test("a queue is served in order; those in it hear their place and when to expect their turn", async () => {
  const engine = newEngine({ maxRows: 2 });
  const heard = [1n, 2n, 3n].map((seed) => submit(engine, { seed }));
  await engine.step();
  assert.deepEqual(heard.map(({ events }) => events[0].type), ["started", "queued", "queued"]);
  await runToIdle(engine);
  const places = heard[2].events.flatMap((event) => (event.type === "queued" ? [event.position] : []));
  assert.deepEqual(places, [2, 1]);
  const [first] = heard[2].events;
  assert.ok(first!.type === "queued" && first.estimatedStartMs > 0);
});

test("more than may wait is refused at once, with a time to come back", async () => {
  const engine = newEngine({ maxRows: 2, maxWaiting: 1 });
  submit(engine);
  await engine.step();
  submit(engine);
  assert.throws(() => submit(engine), (error: AppError) => error.kind === "overloaded" && error.retryDelayMs! > 0);
  await runToIdle(engine);
});

test("a prompt that leaves no room for the image is refused by name", () => {
  assert.throws(() => submit(newEngine(), { promptTokens: Array.from({ length: 18 }, () => 1) }), (error: AppError) => {
    assert.equal(error.message, "`generation.prompt` must be at most 17 text tokens, got 18");
    return error.kind === "invalid-request";
  });
});

test("a deadline that can't hold is refused with the estimate; one that passes ends the request", async () => {
  const engine = newEngine();
  assert.throws(() => submit(engine, { deadline: Date.now() - 1 }), (error: AppError) => error.kind === "deadline-exceeded");
  const heard = submit(engine, { deadline: Date.now() + 60_000 });
  await engine.step();
  await runToIdle(engine);
  assert.equal(heard.error, undefined);
});

/** An engine whose model takes so long for a pass, by a clock of the test's own, until it is told to be quick. */
function slowEngine(t: TestContext, passMs: number) {
  let clock = 0;
  t.mock.method(performance, "now", () => clock);
  const model = new FakeModel();
  const forward = model.forward.bind(model);
  model.forward = (pass) => {
    clock += passMs;
    return forward(pass);
  };
  return { engine: newEngine({}, model), beQuick: () => void (model.forward = forward) };
}

test("a model too slow for any trial pass is known to be slow", async (t) => {
  const { engine } = slowEngine(t, 2000);
  await engine.warmUp(1000);
  assert.throws(() => submit(engine, { deadline: Date.now() + 10_000 }), { kind: "deadline-exceeded" });
});

test("an idle engine turns nobody away for how slow it was under load", async (t) => {
  const { engine, beQuick } = slowEngine(t, 1000);
  for (let i = 0; i < 20; i++) {
    submit(engine);
    await runToIdle(engine);
  }
  assert.equal(engine.snapshot.estimatedStartMs, 0);
  submit(engine);
  assert.throws(() => submit(engine, { deadline: Date.now() + 5000 }), { kind: "deadline-exceeded", message: /in 1\d{4} ms/ });
  await runToIdle(engine);
  beQuick();
  const heard = submit(engine, { deadline: Date.now() + 5000 });
  await runToIdle(engine);
  assert.equal(heard.error, undefined);
});

test("a request whose logits are not numbers is lost alone, in its prompt or in the batch", async () => {
  const expected = await alone({ seed: 1n });
  for (const [poisoned, from] of [[5, 0], [5, 6]] as const) {
    const model = new FakeModel();
    const forward = model.forward.bind(model);
    const engine = newEngine({}, model);
    model.forward = async (pass) => {
      const output = await forward(pass);
      const { codebookSize } = FAKE_LAYOUT;
      const count = output.logits.length / pass.rows / codebookSize;
      for (let row = 0; row < pass.rows; row++) {
        const start = (pass.firstRow + row) * pass.cache.capacity;
        const past = pass.cache.lengths[pass.firstRow + row];
        const first = past > 0 ? pass.cache.keys[0][start] : Number(pass.ids[0]);
        if (first === poisoned && past >= from) output.logits.fill(NaN, row * count * codebookSize, (row + 1) * count * codebookSize);
      }
      return output;
    };
    const [well, ill] = [submit(engine, { seed: 1n }), submit(engine, { promptTokens: [poisoned, 2, 3] })];
    await runToIdle(engine);
    assert.equal(ill.error?.kind, "aborted");
    assert.match(ill.error.message, /a pass of the model failed: the model's (largest )?logit/);
    assert.equal(ill.tokens().length > 0, from > 0);
    assert.deepEqual([well.error, well.tokens()], [undefined, expected]);
    model.forward = forward;
    const healed = submit(engine, { promptTokens: [poisoned, 2, 3] });
    await runToIdle(engine);
    assert.equal(healed.error, undefined, "nothing of it is kept");
  }
});

test("one image's wide draft window is not paid for by others that share its passes", async () => {
  const model = new FakeModel();
  const engine = newEngine({ maxRows: 32 }, model);
  const speculation = { draftWindow: 16, verification: "coupled" } as const;
  submit(engine, { seed: 2n, speculation });
  await engine.step();
  await engine.step();
  assert.ok(model.passes.some(([rows, count]) => rows === 2 && count > 8), "alone it gets what it asks for");
  const shared = model.passes.length;
  for (let i = 0; i < 15; i++) submit(engine);
  await runToIdle(engine);
  const decodes = model.passes.slice(shared).filter(([rows]) => rows > 2);
  assert.ok(decodes.length > 0 && decodes.every(([rows, count]) => rows * count <= Math.max(rows, 64)));
});

test("an abort frees its rows before the next pass, at any moment, and harms nobody", async () => {
  const expected = await alone({ seed: 1n });
  for (let at = 0; at < TOTAL + 2; at++) {
    const model = new FakeModel();
    const engine = newEngine({}, model);
    const [stays, leaves] = [submit(engine, { seed: 1n }), submit(engine, { seed: 2n, guidanceScale: 1 })];
    for (let i = 0; i < at; i++) await engine.step();
    engine.abort(leaves.id, cancelled());
    const wasOver = leaves.isEnded;
    await engine.step();
    assert.equal(leaves.error?.kind, wasOver ? undefined : "cancelled");
    assert.ok(engine.snapshot.slots.reserved <= 2);
    await runToIdle(engine);
    assert.deepEqual(stays.tokens(), expected);
  }
});

test("a pass that fails ends the requests in it and no others", async () => {
  const model = new FakeModel();
  const engine = newEngine({}, model);
  const lost = submit(engine);
  await engine.step();
  const forward = model.forward.bind(model);
  model.forward = () => Promise.reject(new Error("out of memory"));
  await engine.step();
  assert.equal(lost.error?.kind, "aborted");
  model.forward = forward;
  const next = submit(engine);
  await runToIdle(engine);
  assert.deepEqual(next.tokens(), await alone());
});

test("the urgent preempt the less urgent between two tokens, and these go on where they were", async () => {
  const engine = newEngine({ maxRows: 2 });
  const low = submit(engine, { priority: "low", seed: 1n });
  for (let i = 0; i < 5; i++) await engine.step();
  const high = submit(engine, { priority: "high", seed: 2n });
  await engine.step();
  assert.equal(high.events[0]?.type, "started");
  await runToIdle(engine);
  assert.equal(low.timings().preemptions, 1);
  assert.deepEqual(low.tokens(), await alone({ seed: 1n }));
  assert.deepEqual(high.tokens(), await alone({ seed: 2n }));
});

test("an image goes on from any prefix to the very same end; another seed makes a variation of it", async () => {
  const whole = await alone();
  for (const draftWindow of [1, 5] as const) {
    for (let length = 1; length < TOTAL; length++) {
      const images = [{ imageIndex: 0, prefix: whole.slice(0, length) }];
      const speculation = { draftWindow, verification: "coupled" } as const;
      assert.deepEqual(await alone({ images, speculation }), whole.slice(length));
    }
  }
  const variation = await alone({ images: [{ imageIndex: 0, prefix: whole.slice(0, 8) }], seed: 8n });
  assert.equal(variation.length, TOTAL - 8);
  assert.notDeepEqual(variation, whole.slice(8));
});

test("a step touches only rows that are in use", async () => {
  const model = new FakeModel();
  const engine = newEngine({}, model);
  const heard: Heard[] = [submit(engine, { guidanceScale: 1 }), submit(engine), submit(engine, { guidanceScale: 1 })];
  await engine.step();
  model.passes.length = 0;
  engine.abort(heard[1].id, cancelled());
  await engine.step();
  assert.deepEqual(model.passes, [[2, 1]]);
  await runToIdle(engine);
});
