import assert from "node:assert/strict";
import { test } from "node:test";
import { FAKE_LAYOUT } from "#test/doubles/fake-model.js";
import { PromptCache, type Prompt } from "./prompt-cache.js";

function finish(prompt: Prompt): void {
  const count = prompt.ids.length - prompt.done;
  const news = new Float32Array(count);
  prompt.advance({ newKeys: news, newValues: news, rows: 1, count }, count, new Float32Array(FAKE_LAYOUT.codebookSize));
}

test("equal ids are one prompt, other ids another", () => {
  const cache = new PromptCache(FAKE_LAYOUT, 100);
  const prompt = cache.acquire([1, 2, 3]);
  assert.equal(cache.acquire([1, 2, 3]), prompt);
  assert.ok(prompt.isShared);
  assert.notEqual(cache.acquire([12, 3]), prompt);
  assert.equal(cache.used, 2);
});

test("a prompt stays when nobody uses it, until others need the room", () => {
  const cache = new PromptCache(FAKE_LAYOUT, 8);
  const prompts = [[1, 2, 3], [4, 5, 6], [7, 8, 9]].map((ids) => cache.acquire(ids));
  for (const prompt of prompts) {
    finish(prompt);
    cache.release(prompt);
  }
  assert.equal(cache.idlePositions, 6);
  assert.equal(cache.acquire([7, 8, 9]), prompts[2]);
  assert.notEqual(cache.acquire([1, 2, 3]), prompts[0]);
});

test("prompts in use are never given up, and one left half-way is", () => {
  const cache = new PromptCache(FAKE_LAYOUT, 0);
  const [used, left] = [cache.acquire([1, 2]), cache.acquire([3, 4])];
  finish(used);
  cache.release(left);
  assert.equal(cache.idlePositions, 0);
  assert.equal(cache.acquire([1, 2]), used);
  assert.notEqual(cache.acquire([3, 4]), left);
  assert.deepEqual(cache.unfinished.map(({ ids }) => ids), [[3, 4]]);
});
