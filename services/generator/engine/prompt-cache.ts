import { KvCache, type NewPositions } from "./kv-cache.js";
import type { ModelLayout } from "./model.js";

/** The positions of one branch before its first new token, on their way through prefill or done with it. */
export class Prompt {
  /** Ids in the transformer's vocabulary: text tokens, then the image tokens of a prefix. */
  readonly ids: readonly number[];
  /** One row. */
  readonly cache: KvCache;
  /** Sequences that need it. */
  users = 0;
  #logits: Float32Array | undefined;

  constructor(layout: ModelLayout, ids: readonly number[]) {
    this.ids = ids;
    this.cache = new KvCache(layout, 1, ids.length);
    this.cache.reserve(ids.length);
  }

  /** Whether someone else needs it too. */
  get isShared(): boolean {
    return this.users > 1;
  }

  /** Positions that have been through prefill. */
  get done(): number {
    return this.cache.lengths[0];
  }

  /** `[V]` logits of the token behind the prompt, once prefill is done; not to be changed. */
  get logits(): Float32Array | undefined {
    return this.#logits;
  }

  /** Take in the next `count` positions. @param logits those behind the last of them. */
  advance(pass: NewPositions, count: number, logits: Float32Array): void {
    this.cache.append(0, pass, 0, count);
    if (this.done === this.ids.length) this.#logits = logits.slice();
  }
}

/**
 * Prompts by their ids, so that equal ones are prefilled once: the images of a request, repeated prompts, and above all
 * the unconditional branch, which is the same for nearly every request. Prompts that nobody uses are kept, the latest
 * used, as long as they fit.
 */
export class PromptCache {
  readonly #layout: ModelLayout;
  readonly #maxIdlePositions: number;
  /** In the order in which they came into use. */
  readonly #prompts = new Map<string, Prompt>();

  /** @param maxIdlePositions positions that unused prompts may take together. */
  constructor(layout: ModelLayout, maxIdlePositions: number) {
    this.#layout = layout;
    this.#maxIdlePositions = maxIdlePositions;
  }

  /** Positions that nobody uses but that are kept. */
  get idlePositions(): number {
    return [...this.#prompts.values()].reduce((sum, { users, ids }) => sum + (users === 0 ? ids.length : 0), 0);
  }

  /** Prompts in use that are not through prefill, the longest waiting first. */
  get unfinished(): readonly Prompt[] {
    return [...this.#prompts.values()].filter(({ users, logits }) => users > 0 && logits === undefined);
  }

  /** Prompts in use. */
  get used(): number {
    return [...this.#prompts.values()].filter(({ users }) => users > 0).length;
  }

  /** The prompt of these ids, new or known. Whoever acquires it must release it. */
  acquire(ids: readonly number[]): Prompt {
    const key = ids.join();
    const prompt = this.#prompts.get(key) ?? new Prompt(this.#layout, ids);
    if (prompt.users++ === 0) {
      this.#prompts.delete(key);
      this.#prompts.set(key, prompt);
    }
    return prompt;
  }

  release(prompt: Prompt): void {
    prompt.users--;
    for (const [key, { users, logits }] of this.#prompts) {
      const isHalf = logits === undefined;
      if (users === 0 && (isHalf || this.idlePositions > this.#maxIdlePositions)) this.#prompts.delete(key);
    }
  }
}
