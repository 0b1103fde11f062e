import { aborted, AppError, invariant } from "#libs/errors/errors.js";
import { Batch, type BatchPass } from "./batch.js";
import { verify } from "./decoding.js";
import { LawKernel } from "./law-kernel.js";
import type { Model } from "./model.js";
import { type Prompt, PromptCache } from "./prompt-cache.js";
import { planPrefill } from "./scheduler.js";
import type { Sequence } from "./sequence.js";
import { Speculation } from "./speculation.js";
import type { Draft, Verified } from "./speculative.js";

/** How much a runner may hold. */
export interface RunnerLimits {
  /** Rows of the batch: one for each branch of each image at work. */
  readonly maxRows: number;
  /** Positions a row can hold: the longest prompt and all image tokens but the last, which is never fed back. */
  readonly maxRowPositions: number;
}

/** One pass of the model. */
export interface PassRecord {
  readonly phase: "prefill" | "decode";
  readonly rows: number;
  readonly ms: number;
}

/** Sequences lost to a pass that failed, by their error. */
export type Losses = ReadonlyMap<Sequence, AppError>;

/** Prompts that nobody uses may take this share of what the batch takes. */
const IDLE_SHARE = 1 / 8;

const NO_LOSSES: Losses = new Map();

/** Tokens that the law at index j of a window follows. */
function* seenBefore(j: number, { tokens }: Sequence, drafts: readonly Draft[]): Generator<number> {
  yield* tokens;
  for (let i = 0; i < j; i++) yield drafts[i].token;
}

/** What a sequence is lost to: another replica, or another try, may do better. */
export function lostTo(error: unknown): AppError {
  return aborted(`a pass of the model failed: ${AppError.from(error).message}`);
}

/** Everything that touches the model: prompts through prefill, sequences into the batch, the batch from pass to pass. */
export class ModelRunner {
  readonly speculation = new Speculation();
  readonly batch: Batch;
  readonly #model: Model;
  readonly #prompts: PromptCache;
  readonly #kernel: LawKernel;
  #records: PassRecord[] = [];
  #passMs = 0;
  #passes = 0;

  constructor(model: Model, { maxRows, maxRowPositions }: RunnerLimits) {
    this.#model = model;
    this.#kernel = new LawKernel(model.layout.codebookSize);
    this.batch = new Batch(model, maxRows, maxRowPositions);
    this.#prompts = new PromptCache(model.layout, Math.ceil(IDLE_SHARE * maxRows * maxRowPositions));
  }

  /** Milliseconds that the model has taken. */
  get passMs(): number {
    return this.#passMs;
  }

  /** Passes of the batch. */
  get passes(): number {
    return this.#passes;
  }

  /** The passes since the last call. */
  takePasses(): readonly PassRecord[] {
    const records = this.#records;
    this.#records = [];
    return records;
  }

  /** Prompts that some sequence needs. */
  get promptsInUse(): number {
    return this.#prompts.used;
  }

  /** Run passes of many sizes, to learn what they cost and to make the model allocate what it needs. */
  async warmUp(maxMs: number): Promise<void> {
    await this.speculation.passCost.calibrate(this.#model, maxMs);
  }

  /** Reserve a sequence's rows and find its prompts; each branch begins with its text and the tokens there are already. */
  admit(sequence: Sequence): void {
    const { promptTokens, negativePromptTokens } = sequence.request;
    const known = sequence.tokens.map((token) => this.#model.layout.tokenOffset + token);
    this.batch.reserve(sequence);
    const branches = sequence.rows === 1 ? [promptTokens] : [promptTokens, negativePromptTokens];
    sequence.prompts = branches.map((ids) => this.#prompts.acquire([...ids, ...known]));
    const [conditional, unconditional] = sequence.prompts.map(({ isShared, done, ids }) => (isShared ? ids.length : done));
    sequence.reusedPromptTokens += conditional;
    sequence.reusedNegativeTokens += unconditional ?? 0;
    sequence.status = "prefill";
    sequence.startedAt = performance.now();
    sequence.queueMs += sequence.startedAt - sequence.waitingSince;
  }

  /** Take back all that a sequence holds. */
  leave(sequence: Sequence): void {
    this.batch.leave(sequence);
    this.#releasePrompts(sequence);
    sequence.waitingSince = performance.now();
    sequence.drafts = [];
    sequence.lastLaw = undefined;
  }

  /** Bring the prompts of these sequences further, as far as one step may. */
  async prefill(sequences: readonly Sequence[]): Promise<Losses> {
    const losses = new Map<Sequence, AppError>();
    const prompts = this.#prompts.unfinished;
    const plan = planPrefill(prompts.map(({ done, ids }) => ({ done, total: ids.length })));
    for (const [index, chunks] of plan.entries()) {
      const prompt = prompts[index];
      const users = sequences.filter((sequence) => sequence.prompts.includes(prompt));
      for (const count of chunks) {
        const lost = await this.#guarded(users, () => this.#advance(prompt, count));
        for (const [sequence, error] of lost) losses.set(sequence, error);
      }
    }
    return losses;
  }

  /**
   * Let a sequence draw its first token and decode from then on, if its prompts are through. @returns whether it does.
   * @throws what is wrong with its logits; it has not joined then.
   */
  join(sequence: Sequence): boolean {
    const logits = sequence.prompts.map((prompt) => prompt.logits);
    if (logits.includes(undefined)) return false;
    const law = this.#kernel.law(logits as Float32Array[], sequence.request, sequence.tokens);
    this.batch.join(sequence);
    this.#releasePrompts(sequence);
    sequence.status = "decode";
    sequence.takenAt = performance.now();
    sequence.prefillMs += sequence.takenAt - sequence.startedAt;
    this.#take(sequence, verify(sequence, [], () => law));
    return true;
  }

  /**
   * Bring every sequence of the batch one pass further: one token or, where drafts were right, more. One whose logits are
   * wrong is lost alone.
   */
  async decode(): Promise<Losses> {
    const { sequences } = this.batch;
    if (sequences.length === 0) return NO_LOSSES;
    const rows = this.batch.slots.placed;
    const drafts = this.speculation.plan(sequences, rows, this.#model.layout.imageTokenCount);
    const windows = sequences.map((sequence) => (
      { sequence, tokens: [sequence.tokens.at(-1)!, ...drafts.get(sequence)!.map(({ token }) => token)] }
    ));
    const losses = new Map<Sequence, AppError>();
    const all = await this.#guarded(sequences, async () => {
      const pass = await this.#timed("decode", rows, () => this.batch.pass(windows));
      this.#passes++;
      this.speculation.passCost.observe(rows * Math.max(...windows.map(({ tokens }) => tokens.length)), this.#records.at(-1)!.ms);
      const startedAt = performance.now();
      for (const [sequence, drafted] of drafts) {
        try {
          this.#commit(pass, sequence, drafted);
        } catch (error) {
          losses.set(sequence, lostTo(error));
        }
      }
      this.speculation.took(windows.reduce((sum, { tokens }) => sum + tokens.length, 0), performance.now() - startedAt);
    });
    return new Map([...losses, ...all]);
  }

  #commit(pass: BatchPass, sequence: Sequence, drafted: readonly Draft[]): void {
    const verified = verify(sequence, drafted, (j) => (
      this.#kernel.law(pass.logits(sequence, j), sequence.request, seenBefore(j, sequence, drafted))
    ));
    pass.commit(sequence, verified.tokens.length);
    this.speculation.judged(sequence, verified, drafted.length + 1);
    sequence.decodeSteps++;
    this.#take(sequence, verified);
  }

  #take(sequence: Sequence, { tokens, drafts }: Verified): void {
    sequence.tokens.push(...tokens);
    sequence.drafts = drafts;
    const now = performance.now();
    sequence.decodeMs += now - sequence.takenAt;
    sequence.takenAt = now;
  }

  async #advance(prompt: Prompt, count: number): Promise<void> {
    const ids = BigInt64Array.from(prompt.ids.slice(prompt.done, prompt.done + count), BigInt);
    const pass = await this.#timed("prefill", 1, () => (
      this.#model.forward({ cache: prompt.cache, firstRow: 0, rows: 1, ids, logitsFrom: count - 1 })
    ));
    // Kept with the prompt, they would fail everybody who has it too.
    if (pass.logits.some((logit) => Number.isNaN(logit) || logit === Infinity)) throw invariant("the model's logits are not numbers");
    prompt.advance({ ...pass, rows: 1, count }, count, pass.logits);
  }

  async #timed<T>(phase: PassRecord["phase"], rows: number, pass: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    const output = await pass();
    const ms = performance.now() - startedAt;
    this.#passMs += ms;
    this.#records.push({ phase, rows, ms });
    return output;
  }

  /** A pass that fails takes its sequences with it and nobody else: nothing of it has been committed. */
  async #guarded(sequences: readonly Sequence[], pass: () => Promise<void>): Promise<Losses> {
    try {
      await pass();
      return NO_LOSSES;
    } catch (error) {
      const lost = lostTo(error);
      return new Map(sequences.map((sequence) => [sequence, lost]));
    }
  }

  #releasePrompts(sequence: Sequence): void {
    for (const prompt of sequence.prompts) this.#prompts.release(prompt);
    sequence.prompts = [];
  }
}
