import { guide } from "./guidance.js";
import { KvCache } from "./kv-cache.js";
import { processLogits } from "./logits-processors.js";
import type { Model } from "./model.js";
import { argMax, sample } from "./sampler.js";
import type { SequenceEvent, SequenceRequest } from "./sequence.js";

/** Tokens are handed on once this much time has passed since the last ones, so that messages stay few. */
const FLUSH_INTERVAL_MS = 50;

function toIds(tokens: readonly number[]): BigInt64Array {
  return BigInt64Array.from(tokens, BigInt);
}

/** Fill the cache with the prompts: row 0 conditional, row 1 unconditional. Returns `[rows, V]` logits. */
async function prefill(model: Model, cache: KvCache, prompts: readonly (readonly number[])[]): Promise<Float32Array> {
  const { codebookSize } = model.layout;
  const logits = new Float32Array(prompts.length * codebookSize);
  for (const [row, prompt] of prompts.entries()) {
    logits.set(await model.forward({ cache, firstRow: row, rows: 1, ids: toIds(prompt) }), row * codebookSize);
  }
  return logits;
}

/**
 * Generate one image's tokens, one decode step after the other. Both branches of guidance keep their own positions:
 * each continues from the length of its own prompt.
 * @throws the signal's reason, at most one step after it aborts.
 */
export async function* decodeImage(
  model: Model, request: SequenceRequest, { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<SequenceEvent, void, undefined> {
  const { imageTokenCount, tokenOffset } = model.layout;
  const prompts = request.guidanceScale === 1 ? [request.promptTokens]
    : [request.promptTokens, request.negativePromptTokens];
  const longestPrompt = Math.max(...prompts.map((prompt) => prompt.length));
  // The last token is drawn but never fed back, so it needs no position.
  const cache = new KvCache(model.layout, prompts.length, longestPrompt + imageTokenCount - 1);

  const startedAt = performance.now();
  let logits = await prefill(model, cache, prompts);
  const prefilledAt = performance.now();
  yield { type: "prefilled" };

  let pending: number[] = [];
  let flushedAt = prefilledAt;
  for (let position = 0; ; position++) {
    signal.throwIfAborted();
    const guided = prompts.length === 2 ? guide(logits, request.guidanceScale) : logits;
    processLogits(guided, request);
    const token = request.temperature === 0 ? argMax(guided) : sample(guided, { ...request, position });
    pending.push(token);
    const isLast = position === imageTokenCount - 1;
    if (isLast || performance.now() - flushedAt >= FLUSH_INTERVAL_MS) {
      yield { type: "tokens", offset: position + 1 - pending.length, tokens: pending };
      pending = [];
      flushedAt = performance.now();
    }
    if (isLast) break;
    const ids = new BigInt64Array(prompts.length).fill(BigInt(tokenOffset + token));
    logits = await model.forward({ cache, firstRow: 0, rows: prompts.length, ids });
  }
  const timings = {
    prefillMs: prefilledAt - startedAt, decodeMs: performance.now() - prefilledAt, decodeSteps: imageTokenCount - 1,
  };
  yield { type: "finished", timings };
}
