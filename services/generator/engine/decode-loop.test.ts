import assert from "node:assert/strict";
import { test } from "node:test";
import { FAKE_LAYOUT, FakeModel } from "#test/doubles/fake-model.js";
import { decodeImage } from "./decode-loop.js";
import type { SequenceEvent, SequenceRequest } from "./sequence.js";

const REQUEST: SequenceRequest = {
  promptTokens: [1, 2, 3], negativePromptTokens: [1, 3], guidanceScale: 2, temperature: 1, topK: 0, topP: 1,
  seed: 7n, imageIndex: 0,
};

async function events(request: SequenceRequest, model = new FakeModel()): Promise<SequenceEvent[]> {
  const all = [];
  for await (const event of decodeImage(model, request, { signal: new AbortController().signal })) all.push(event);
  return all;
}

async function tokens(change: Partial<SequenceRequest> = {}): Promise<number[]> {
  const all = await events({ ...REQUEST, ...change });
  return all.flatMap((event) => (event.type === "tokens" ? [...event.tokens] : []));
}

test("an image is prefilled, streamed without gaps and finished", async () => {
  const all = await events(REQUEST);
  assert.equal(all[0]!.type, "prefilled");
  assert.equal(all.at(-1)!.type, "finished");
  let next = 0;
  for (const event of all) {
    if (event.type !== "tokens") continue;
    assert.equal(event.offset, next);
    next += event.tokens.length;
  }
  assert.equal(next, FAKE_LAYOUT.imageTokenCount);
});

test("the same seed gives the same tokens; another seed or image index gives others", async () => {
  const first = await tokens();
  assert.deepEqual(await tokens(), first);
  assert.notDeepEqual(await tokens({ seed: 8n }), first);
  assert.notDeepEqual(await tokens({ seed: 7n + (1n << 32n) }), first);
  assert.notDeepEqual(await tokens({ imageIndex: 1 }), first);
});

test("each branch of guidance continues from its own prompt", async () => {
  const first = await tokens();
  assert.notDeepEqual(await tokens({ negativePromptTokens: [1, 4] }), first);
  assert.notDeepEqual(await tokens({ promptTokens: [1, 2, 4] }), first);
  const equalBranches = { negativePromptTokens: REQUEST.promptTokens };
  assert.deepEqual(await tokens({ ...equalBranches, guidanceScale: 9 }), await tokens({ guidanceScale: 1 }));
});

test("guidance scale 1 runs the conditional row alone", async () => {
  const model = new FakeModel();
  await events({ ...REQUEST, guidanceScale: 1 }, model);
  assert.deepEqual(model.passes, [[1, 3], ...Array.from({ length: 15 }, () => [1, 1])]);
});

test("a guided image prefills two rows and then steps them together", async () => {
  const model = new FakeModel();
  await events(REQUEST, model);
  assert.deepEqual(model.passes, [[1, 3], [1, 2], ...Array.from({ length: 15 }, () => [2, 1])]);
});

test("temperature 0 ignores the seed, and so does top-k 1", async () => {
  const greedy = await tokens({ temperature: 0 });
  assert.deepEqual(await tokens({ temperature: 0, seed: 99n }), greedy);
  assert.deepEqual(await tokens({ topK: 1, seed: 99n }), greedy);
  assert.deepEqual(await tokens({ topP: 1e-6, seed: 99n }), greedy);
});

test("an abort ends the work within one step, with the signal's reason", async () => {
  const model = new FakeModel();
  const controller = new AbortController();
  const reason = new Error("enough");
  const forward = model.forward.bind(model);
  model.forward = (pass) => {
    if (model.passes.length === 5) controller.abort(reason);
    return forward(pass);
  };
  await assert.rejects(async () => {
    for await (const _ of decodeImage(model, REQUEST, { signal: controller.signal }));
  }, reason);
  assert.equal(model.passes.length, 6);
});
