import { type AppError, deadlineExceeded, invalidRequest } from "#libs/errors/errors.js";
import { checkAdmission, estimate, type Estimate, type Work } from "./admission.js";
import type { GenerationRequest } from "./generation.js";
import { Job, type Listener } from "./job.js";
import type { Model, ModelLayout } from "./model.js";
import { type Losses, lostTo, ModelRunner, type PassRecord, type RunnerLimits } from "./model-runner.js";
import { Pace } from "./pace.js";
import { inTurn, lookAhead, type Outlook, planAdmission } from "./scheduler.js";
import { Sequence, type SequenceStatus } from "./sequence.js";
import type { EngineSnapshot } from "./snapshot.js";

/** How much an engine may hold. */
export interface EngineLimits extends RunnerLimits {
  /** Requests that may wait for their first image to start. */
  readonly maxWaiting: number;
}

/** What is expected of a sequence. */
type Expected = Pick<Sequence, "id" | "rows" | "priority" | "arrivedAt" | "startedAt" | "tokens">;

/** How much the latest step counts in the pace. */
const WEIGHT = 0.02;

/**
 * Generates image tokens for many requests at once. Works one step after the other: every image at work gets its next
 * token or tokens in each, and requests come and go between steps. Speaks ids only: no text, no wire format.
 *
 * A request's tokens depend on its prompt, settings and seed alone: not on its companions, on when it came or on what was
 * drafted.
 */
export class Engine {
  readonly #layout: ModelLayout;
  readonly #limits: EngineLimits;
  readonly #runner: ModelRunner;
  readonly #jobs = new Map<number, Job>();
  /** Every sequence that has not ended, in order of arrival. */
  readonly #jobOf = new Map<Sequence, Job>();
  #pace = new Pace(1);
  #nextId = 0;
  #steps = 0;
  #stepMs = 0;
  #ended = {
    imageTokens: 0, draftedTokens: 0, acceptedTokens: 0, preemptions: 0, reusedPromptTokens: 0, reusedNegativeTokens: 0,
  };

  constructor(model: Model, limits: EngineLimits) {
    this.#layout = model.layout;
    this.#limits = limits;
    this.#runner = new ModelRunner(model, limits);
  }

  /** Run passes of many sizes, to learn what they cost and to make the model allocate what it needs. */
  async warmUp(maxMs: number): Promise<void> {
    await this.#runner.warmUp(maxMs);
    this.#pace = new Pace(this.#runner.speculation.passCost.estimate(2));
  }

  /**
   * Take a request in. Its listener hears all of it from now on; `abort` with the id that is returned ends it early.
   * @throws AppError "invalid-request" if it needs more positions than a row has, "overloaded" if too many requests wait,
   *   "deadline-exceeded" if its deadline can't hold.
   */
  submit(request: GenerationRequest, listener: Listener): number {
    this.#checkPositions(request);
    const { acceptance } = this.#runner.speculation;
    const sequences = request.images.map((image) => new Sequence(this.#nextId++, request, image, acceptance));
    const outlook = this.#lookAhead(sequences);
    const expected = this.#estimate(sequences, outlook);
    const starts = (all: readonly Sequence[]) => all.some((sequence) => outlook.admitted.has(sequence));
    const waiting = this.#waitingJobs.filter((other) => !starts(other.sequences)).length;
    checkAdmission(expected, { startsNow: starts(sequences), waiting, deadline: request.deadline }, this.#limits.maxWaiting);
    const id = sequences[0].id;
    const job = new Job(request, sequences, listener);
    this.#jobs.set(id, job);
    for (const sequence of sequences) this.#jobOf.set(sequence, job);
    return id;
  }

  /** End a request with an error of the caller's choice; done before the next step begins. Ids that are over are ignored. */
  abort(id: number, error: AppError): void {
    const job = this.#jobs.get(id);
    if (job !== undefined) job.abortion ??= error;
  }

  /** Whether nothing is left to do. */
  get isIdle(): boolean {
    return this.#jobs.size === 0;
  }

  /** Give up what was aborted, give rows to whoever is next, and bring every image at work one pass further. */
  async step(): Promise<void> {
    const startedAt = performance.now();
    this.#sweep();
    this.#admit();
    this.#announceQueue();
    this.#lose(await this.#runner.prefill(this.#withStatus("prefill")));
    this.#join();
    // The first token of an image that was nearly complete is also its last.
    this.#handOn();
    const tokensBefore = this.#tokenCount();
    this.#lose(await this.#runner.decode());
    this.#learnPace(performance.now() - startedAt, this.#tokenCount() - tokensBefore);
    this.#handOn();
    this.#steps++;
    this.#stepMs += performance.now() - startedAt;
  }

  /** The passes of the model since the last call. */
  takePasses(): readonly PassRecord[] {
    return this.#runner.takePasses();
  }

  /** How it stands; to be looked at between steps. */
  get snapshot(): EngineSnapshot {
    const waiting = this.#withStatus("waiting");
    const { batch, passMs, passes } = this.#runner;
    const now = performance.now();
    const guided = { id: -1, rows: 2, priority: "normal" as const, arrivedAt: now, startedAt: now, tokens: [] };
    return {
      waitingRequests: this.#waitingJobs.length,
      waiting: waiting.length,
      running: this.#running.length,
      slots: batch.slots,
      waitingTokens: waiting.reduce((sum, { tokens }) => sum + this.#layout.imageTokenCount - tokens.length, 0),
      filledPositions: batch.filledPositions,
      maxPositions: this.#limits.maxRows * this.#limits.maxRowPositions,
      estimatedStartMs: this.#estimate([guided]).startMs,
      counters: { ...this.#ended, steps: this.#steps, stepMs: this.#stepMs, passMs, decodePasses: passes },
    };
  }

  /** What is wrong with the books, in words; empty if nothing is. */
  checkInvariants(): readonly string[] {
    const { batch, promptsInUse } = this.#runner;
    const problems = [...batch.checkInvariants()];
    const rows = this.#running.reduce((sum, sequence) => sum + sequence.rows, 0);
    if (rows !== batch.slots.reserved) problems.push(`${batch.slots.reserved} rows are reserved, ${rows} are needed`);
    if (this.isIdle && promptsInUse > 0) problems.push(`${promptsInUse} prompts are in use by nobody`);
    if (this.isIdle && this.#jobOf.size > 0) problems.push(`${this.#jobOf.size} sequences belong to no request`);
    return problems;
  }

  /** Requests none of whose images has started, those left out that have been given up. */
  get #waitingJobs(): readonly Job[] {
    return [...this.#jobs.values()].filter(({ isStarted, abortion }) => !isStarted && abortion === undefined);
  }

  #withStatus(wanted: SequenceStatus): readonly Sequence[] {
    return [...this.#jobOf.keys()].filter(({ status }) => status === wanted);
  }

  get #running(): readonly Sequence[] {
    return [...this.#jobOf.keys()].filter(({ status }) => status === "prefill" || status === "decode");
  }

  /** Without those that have been given up: the next step begins with letting go of them. */
  #kept(sequences: readonly Sequence[]): readonly Sequence[] {
    return sequences.filter((sequence) => this.#jobOf.get(sequence)?.abortion === undefined);
  }

  /** What the next step will do if these are there. */
  #lookAhead<T extends Expected>(own: readonly T[]): Outlook<T | Sequence> {
    const running = this.#kept(this.#running);
    const freeRows = this.#limits.maxRows - running.reduce((sum, { rows }) => sum + rows, 0);
    const waiting = [...new Set([...this.#kept(this.#withStatus("waiting")), ...own])];
    return lookAhead(waiting, running, freeRows, performance.now());
  }

  #checkPositions({ promptTokens, negativePromptTokens, guidanceScale }: GenerationRequest): void {
    const prompts = guidanceScale === 1 ? [promptTokens] : [promptTokens, negativePromptTokens];
    const most = this.#limits.maxRowPositions - this.#layout.imageTokenCount + 1;
    const longest = Math.max(...prompts.map(({ length }) => length));
    if (longest > most) throw invalidRequest("generation.prompt", `at most ${most} text tokens`, longest);
  }

  /** When sequences, in the queue already or not, are likely to be served. */
  #estimate<T extends Expected>(own: readonly T[], { running, queue } = this.#lookAhead(own)): Estimate {
    const work = ({ rows, tokens }: Expected): Work => ({ rows, tokens: this.#layout.imageTokenCount - tokens.length });
    const ahead = queue.slice(0, queue.indexOf(own[0]));
    const msPerToken = this.isIdle ? this.#pace.best : this.#pace.likely;
    return estimate(running.map(work), ahead.map(work), own.map(work), this.#limits.maxRows, msPerToken);
  }

  /** Give up what was aborted or is past its deadline. */
  #sweep(): void {
    for (const job of this.#jobs.values()) {
      if (job.request.deadline <= Date.now()) job.abortion ??= deadlineExceeded();
      if (job.abortion !== undefined) this.#end(job, job.abortion);
    }
  }

  #admit(): void {
    const waiting = this.#withStatus("waiting");
    if (waiting.length === 0) return;
    const plan = planAdmission(waiting, this.#running, this.#runner.batch.freeRows, performance.now());
    const sequences = new Map([...this.#jobOf.keys()].map((sequence) => [sequence.id, sequence]));
    for (const id of plan.preempt) {
      const sequence = sequences.get(id)!;
      this.#runner.leave(sequence);
      sequence.status = "waiting";
      sequence.preemptions++;
    }
    for (const id of plan.admit) {
      const sequence = sequences.get(id)!;
      this.#runner.admit(sequence);
      this.#jobOf.get(sequence)!.started(sequence);
    }
  }

  /** Tell those who wait their place in the queue. */
  #announceQueue(): void {
    const told = new Set<Job>();
    for (const sequence of inTurn(this.#withStatus("waiting"), performance.now())) {
      const job = this.#jobOf.get(sequence)!;
      if (job.isStarted || told.has(job)) continue;
      told.add(job);
      job.queued(told.size, () => this.#estimate([sequence]).startMs);
    }
  }

  #join(): void {
    for (const sequence of this.#withStatus("prefill")) {
      const job = this.#jobOf.get(sequence);
      if (job === undefined) continue;
      try {
        if (this.#runner.join(sequence)) job.prefilled(sequence);
      } catch (error) {
        this.#end(job, lostTo(error));
      }
    }
  }

  /** Send new tokens on; let go of what is complete. */
  #handOn(): void {
    for (const sequence of this.#withStatus("decode")) {
      const job = this.#jobOf.get(sequence)!;
      const isComplete = sequence.tokens.length === this.#layout.imageTokenCount;
      job.progressed(sequence, isComplete);
      if (!isComplete) continue;
      this.#release(sequence);
      job.finished(sequence);
      if (job.sequences.every(({ status }) => status === "finished")) this.#end(job);
    }
  }

  #lose(losses: Losses): void {
    for (const [sequence, error] of losses) {
      const job = this.#jobOf.get(sequence);
      if (job !== undefined) this.#end(job, error);
    }
  }

  #end(job: Job, error?: AppError): void {
    for (const sequence of job.sequences) this.#release(sequence);
    this.#jobs.delete(job.sequences[0].id);
    job.ended(error);
  }

  #release(sequence: Sequence): void {
    if (sequence.status === "finished") return;
    if (sequence.status !== "waiting") this.#runner.leave(sequence);
    sequence.status = "finished";
    this.#jobOf.delete(sequence);
    this.#ended.imageTokens += sequence.newTokens;
    this.#ended.draftedTokens += sequence.draftedTokens;
    this.#ended.acceptedTokens += sequence.acceptedTokens;
    this.#ended.preemptions += sequence.preemptions;
    this.#ended.reusedPromptTokens += sequence.reusedPromptTokens;
    this.#ended.reusedNegativeTokens += sequence.reusedNegativeTokens;
  }

  #tokenCount(): number {
    return this.#withStatus("decode").reduce((sum, { tokens }) => sum + tokens.length, 0);
  }

  /** @param tokens that a step brought to all images together. */
  #learnPace(stepMs: number, tokens: number): void {
    const images = this.#withStatus("decode").length;
    if (images === 0 || tokens === 0) return;
    // The first steps count alike, and the warm-up as one of them.
    this.#pace.observe((stepMs * images) / tokens, Math.max(WEIGHT, 1 / (this.#steps + 2)));
  }
}
