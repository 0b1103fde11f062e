import assert from "node:assert/strict";
import { test } from "node:test";
import { dice } from "#test/doubles/dice.js";
import { runToIdle, submit, type Heard } from "#test/doubles/engine-run.js";
import { FAKE_LAYOUT, FakeModel } from "#test/doubles/fake-model.js";
import { Engine } from "./engine.js";
import type { GenerationRequest } from "./generation.js";

const LAYOUT = { ...FAKE_LAYOUT, imageTokenCount: 40, maxPositions: 64 };
const WINDOWS = [1, 2, 3, 8, 40, "auto"] as const;

function newEngine(memory: number, maxRows = 8): Engine {
  return new Engine(new FakeModel({ layout: LAYOUT, memory }), { maxRows, maxRowPositions: 64, maxWaiting: 100 });
}

async function alone(change: Partial<GenerationRequest>, memory: number): Promise<Heard> {
  const engine = newEngine(memory);
  const heard = submit(engine, change);
  await runToIdle(engine);
  return heard;
}

/** A request made up of dice: prompt, guidance, sampling and seed. */
function randomRequest(throwDice: (limit: number) => number): Partial<GenerationRequest> {
  return {
    promptTokens: Array.from({ length: 1 + throwDice(20) }, () => throwDice(100)),
    negativePromptTokens: Array.from({ length: 1 + throwDice(5) }, () => throwDice(100)),
    guidanceScale: [1, 1.5, 4][throwDice(3)], temperature: [0, 0.7, 1][throwDice(3)], topK: [0, 3][throwDice(2)],
    topP: [1, 0.8][throwDice(2)], repetitionPenalty: [1, 1.3][throwDice(2)], seed: BigInt(throwDice(1000)), priority: (["low", "normal", "high"] as const)[throwDice(3)],
    images: [{ imageIndex: throwDice(3), prefix: [] }],
  };
}

test("alone, in a batch, staggered, preempted and speculative: token by token the same", async () => {
  // The fake model is exact, so there are no near-ties to excuse.
  for (let schedule = 0; schedule < 200; schedule++) {
    const throwDice = dice(schedule);
    const memory = 1 + throwDice(4);
    const engine = newEngine(memory, 2 + throwDice(7));
    const requests = Array.from({ length: 1 + throwDice(6) }, () => randomRequest(throwDice));
    const heard: Heard[] = [];
    for (const request of requests) {
      const draftWindow = WINDOWS[throwDice(WINDOWS.length)];
      heard.push(submit(engine, { ...request, speculation: { draftWindow, verification: "coupled" } }));
      for (let steps = throwDice(12); steps > 0; steps--) await engine.step();
    }
    await runToIdle(engine);
    for (const [i, request] of requests.entries()) {
      const { imageIndex } = request.images![0];
      assert.deepEqual(
        heard[i].tokens(imageIndex), (await alone(request, memory)).tokens(imageIndex), `schedule ${schedule}, request ${i}`,
      );
    }
  }
});

test("drafts that depend on little are right often, and save passes", async () => {
  const speculation = (draftWindow: number) => ({ speculation: { draftWindow, verification: "coupled" as const } });
  const plain = await alone(speculation(1), 1);
  const fast = await alone(speculation(8), 1);
  assert.equal(plain.timings().decodeSteps, 39);
  assert.ok(fast.timings().decodeSteps < 30, `${fast.timings().decodeSteps}`);
  assert.ok(fast.timings().acceptedTokens + fast.timings().decodeSteps >= 39);
  assert.ok(fast.timings().draftedTokens >= fast.timings().acceptedTokens);
});

test("a window never reaches beyond the image", async () => {
  const model = new FakeModel({ layout: LAYOUT, memory: 1 });
  const engine = new Engine(model, { maxRows: 2, maxRowPositions: 43, maxWaiting: 1 });
  const heard = submit(engine, { promptTokens: [1, 2, 3], speculation: { draftWindow: 64, verification: "coupled" } });
  await runToIdle(engine);
  assert.equal(heard.tokens().length, 40);
  assert.ok(model.passes.every(([, positions]) => positions <= 39));
});
