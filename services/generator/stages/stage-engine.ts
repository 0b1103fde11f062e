import { setImmediate } from "node:timers/promises";
import { aborted, AppError, invariant, notReady } from "#libs/errors/errors.js";
import { latentSize, type Latent, type LatentShape } from "#libs/flow/latent.js";
import { checkAdmission, estimate, type Estimate } from "../engine/admission.js";
import { Pace } from "../engine/pace.js";
import { inTurn, lookAhead, type Outlook, planAdmission } from "../engine/scheduler.js";
import { sharedRows } from "./shared-rows.js";
import type { StageRequest } from "./stage-generation.js";
import { StageJob } from "./stage-job.js";
import type { StageLayout, StageModel, StageOutput } from "./stage-model.js";
import type { StageSnapshot } from "./stage-snapshot.js";
import { StagedImage } from "./staged-image.js";

/** How much a stage engine may hold. */
export interface StageLimits {
  /** Images at work at once: each keeps what it remembers of its stages. */
  readonly maxRunning: number;
  /** Requests that may wait for their first image to start. */
  readonly maxWaiting: number;
  /** How long an image may wait for its latent, in milliseconds. */
  readonly latentTimeoutMs: number;
}

/** One pass of the model. */
export interface StagePass {
  readonly stage: number;
  readonly rows: number;
  readonly ms: number;
}

/** Tokens of one pass: from there on a processor gains nothing by more, and whoever comes next would wait. */
const PASS_TOKENS = 4096;

/** How much the latest stage counts in the pace. */
const WEIGHT = 0.1;

/**
 * Makes token maps for many requests at once. Between two maps of an image its latent is sampled elsewhere; meanwhile the
 * model works on others: whatever is ready for one stage goes through in one pass. Speaks ids and latents only: no text, no
 * wire format.
 *
 * An image's maps depend on its prompts and latents alone, not on its companions or on when it came. So a more urgent one may
 * take its slot between two passes: when it has one again, what the model had remembered is made again from the latents.
 */
export class StageEngine {
  readonly #model: StageModel;
  readonly #limits: StageLimits;
  readonly #jobs = new Set<StageJob>();
  #onPass: (pass: StagePass) => void = () => {};
  #pace = new Pace(1);
  #nextId = 0;
  #isWorking = false;
  #isClosed = false;
  #passingSince: number | undefined;

  constructor(model: StageModel, limits: StageLimits) {
    this.#model = model;
    this.#limits = limits;
  }

  get layout(): StageLayout {
    return this.#model.layout;
  }

  /** Run every stage once, to learn what it takes and to make the model allocate what it needs. */
  async warmUp(): Promise<void> {
    const request: StageRequest = {
      promptTokens: [0], negativePromptTokens: [0], guidanceScale: 2, imageCount: 1, priority: "normal", deadline: Infinity,
    };
    const image = new StagedImage(-1, request, 0, this.layout.textPlaces);
    const startedAt = performance.now();
    for (const shape of this.layout.latents) {
      image.passed(await this.#model.forward(image.stage, image.nextRows), 0);
      image.advance({ ...shape, values: new Float32Array(latentSize(shape)) });
    }
    this.#pace = new Pace((performance.now() - startedAt) / this.layout.latents.length);
  }

  /** Tell one listener about every pass of the model. */
  onPass(listener: (pass: StagePass) => void): void {
    this.#onPass = listener;
  }

  /**
   * Take a request in; `leave` ends it early.
   * @throws AppError "overloaded" if too many requests wait, "deadline-exceeded" if its deadline can't hold, "not-ready" once
   *   closed.
   */
  submit(request: StageRequest): StageJob {
    if (this.#isClosed) throw notReady("the engine is closed");
    const images = Array.from({ length: request.imageCount }, (_, imageIndex) =>
      new StagedImage(this.#nextId++, request, imageIndex, this.layout.textPlaces));
    const job = new StageJob(request, images);
    const outlook = this.#lookAhead(images);
    const expected = this.#estimate(images, outlook);
    const starts = (all: readonly StagedImage[]) => all.some((image) => outlook.admitted.has(image));
    const waiting = [...this.#jobs].filter((other) => !other.isStarted && !starts(other.images)).length;
    checkAdmission(expected, { startsNow: starts(images), waiting, deadline: request.deadline }, this.#limits.maxWaiting);
    this.#jobs.add(job);
    this.#admit();
    void this.#work();
    return job;
  }

  /** The stage whose latent an image awaits, and the latent's shape; undefined if it awaits none. */
  awaited(job: StageJob, imageIndex: number): { readonly stage: number; readonly shape: LatentShape } | undefined {
    const image = job.images[imageIndex];
    const stage = image?.status === "over" ? undefined : image?.awaitedStage;
    return stage === undefined ? undefined : { stage, shape: this.layout.latents[stage] };
  }

  /** Give an image the latent that it awaits. @throws invariant if it awaits none, or one of another shape. */
  deliver(job: StageJob, imageIndex: number, latent: Latent): void {
    const awaited = this.awaited(job, imageIndex);
    if (awaited === undefined || latent.values.length !== latentSize(awaited.shape)) {
      throw invariant(`image ${imageIndex} does not await such a latent`);
    }
    const image = job.images[imageIndex];
    clearTimeout(image.timer);
    image.advance(latent);
    if (image.status !== "awaiting") return;
    this.#learnPace(image);
    this.#ready(image);
    void this.#work();
  }

  /** End a request and free its slots at once; a pass under way ends unheard. Requests that are over are ignored. */
  leave(job: StageJob, error: AppError): void {
    this.#end(job, error);
  }

  get snapshot(): StageSnapshot {
    const jobs = [...this.#jobs];
    const waiting = this.#images("waiting").length;
    return {
      waitingRequests: jobs.filter(({ isStarted }) => !isStarted).length,
      waiting,
      running: this.#running.length,
      waitingTokens: waiting * this.layout.latents.reduce((sum, { height, width }) => sum + height * width, 0),
    };
  }

  /** Whether a pass has taken longer than `stallMs`: it has hung. */
  isStalled(stallMs: number): boolean {
    return this.#passingSince !== undefined && performance.now() - this.#passingSince > stallMs;
  }

  /** End all requests and take no more. The model stays the caller's. */
  close(): void {
    this.#isClosed = true;
    for (const job of this.#jobs) this.#end(job, notReady("the engine is closed"));
  }

  #images(...wanted: readonly StagedImage["status"][]): readonly StagedImage[] {
    return [...this.#jobs].flatMap(({ images }) => images.filter(({ status }) => wanted.includes(status)));
  }

  get #running(): readonly StagedImage[] {
    return this.#images("ready", "passing", "awaiting");
  }

  /** What the next admission will do if these are there. */
  #lookAhead(own: readonly StagedImage[]): Outlook<StagedImage> {
    const waiting = [...new Set([...this.#images("waiting"), ...own])];
    return lookAhead(waiting, this.#running, this.#limits.maxRunning - this.#running.length, performance.now());
  }

  /**
   * When images, in the queue already or not, are likely to be served. The time for the flow is part of the pace, and that of
   * others says how long their slots are taken, not how soon the flow of who needs none of them will be done.
   */
  #estimate(own: readonly StagedImage[], { admitted, running, queue } = this.#lookAhead(own)): Estimate {
    const work = ({ stage }: StagedImage) => ({ rows: 1, tokens: this.layout.latents.length - stage });
    const ahead = queue.slice(0, queue.indexOf(own[0]));
    const msPerStage = own.every((image) => admitted.has(image)) ? this.#pace.best : this.#pace.likely;
    return estimate(running.map(work), ahead.map(work), own.map(work), this.#limits.maxRunning, msPerStage);
  }

  /** Give slots to whoever is next, at the cost of less urgent images that are in no pass, and tell the others their place. */
  #admit(): void {
    const jobOf = new Map([...this.#jobs].flatMap((job) => job.images.map((image) => [image, job] as const)));
    const now = performance.now();
    const waiting = inTurn(this.#images("waiting"), now);
    const between = this.#images("ready", "awaiting");
    const { preempt, admit } = planAdmission(waiting, between, this.#limits.maxRunning - this.#running.length, now);
    for (const image of between) if (preempt.includes(image.id)) image.giveWay();
    const told = new Set<StageJob>();
    for (const image of waiting) {
      const job = jobOf.get(image)!;
      if (admit.includes(image.id)) {
        this.#ready(image);
        if (image.startedAt > 0) continue;
        image.startedAt = image.readyAt;
        job.started(image);
      } else if (!job.isStarted && !told.has(job)) {
        told.add(job);
        job.queued(told.size, this.#estimate([image]).startMs);
      }
    }
  }

  #ready(image: StagedImage): void {
    image.status = "ready";
    image.readyAt = performance.now();
  }

  /** Run passes as long as anything is ready. */
  async #work(): Promise<void> {
    if (this.#isWorking) return;
    this.#isWorking = true;
    for (;;) {
      // What comes in this moment joins the pass.
      await setImmediate();
      const batch = this.#nextBatch();
      if (batch.length === 0) break;
      await this.#pass(batch);
    }
    this.#isWorking = false;
  }

  /** What is ready for the stage of the most urgent image, the longest ready of several, as far as a pass has room. */
  #nextBatch(): readonly StagedImage[] {
    const ready = this.#images("ready")
      .map((image) => ({ id: image.id, rows: image.rows, priority: image.priority, arrivedAt: image.readyAt, image }));
    const turns = inTurn(ready, performance.now()).map(({ image }) => image);
    if (turns.length === 0) return [];
    const [{ stage, textCount, nextRows }] = turns;
    const { height, width } = this.layout.latents[stage];
    const tokens = nextRows.length * (height * width + (stage === 0 ? textCount : 0));
    const alike = turns.filter((image) => image.stage === stage && image.textCount === textCount);
    return alike.slice(0, Math.max(1, Math.floor(PASS_TOKENS / tokens)));
  }

  async #pass(batch: readonly StagedImage[]): Promise<void> {
    const [{ stage }] = batch;
    const { rows, places } = sharedRows(batch);
    for (const image of batch) image.status = "passing";
    const startedAt = performance.now();
    this.#passingSince = startedAt;
    try {
      const outputs = await this.#model.forward(stage, rows);
      const ms = performance.now() - startedAt;
      this.#onPass({ stage, rows: rows.length, ms });
      for (const image of batch) if (image.status === "passing") this.#handOn(image, places.get(image)!.map((row) => outputs[row]), ms);
      this.#admit();
    } catch (error) {
      const lost = aborted(`a pass of the model failed: ${AppError.from(error).message}`);
      for (const image of batch) if (image.status === "passing") this.#end(this.#jobOf(image), lost);
    } finally {
      this.#passingSince = undefined;
    }
  }

  #handOn(image: StagedImage, outputs: readonly StageOutput[], ms: number): void {
    const job = this.#jobOf(image);
    const { stage } = image;
    const isNew = image.passed(outputs, ms);
    if (isNew) job.mapped(image, stage, outputs.map(({ tokenMap }) => tokenMap));
    if (stage === this.layout.latents.length - 1) this.#finish(image, job);
    else if (!image.isAwaiting) this.#ready(image);
    else image.status = "awaiting";
    if (image.status !== "awaiting" || !isNew) return;
    const late = aborted(`no latent of stage ${stage} came for ${this.#limits.latentTimeoutMs} ms`);
    image.timer = setTimeout(() => this.#end(job, late), this.#limits.latentTimeoutMs).unref();
  }

  #finish(image: StagedImage, job: StageJob): void {
    this.#learnPace(image);
    image.status = "over";
    job.finished(image);
    if (job.images.every(({ status }) => status === "over")) this.#end(job);
  }

  #jobOf(image: StagedImage): StageJob {
    return [...this.#jobs].find(({ images }) => images.includes(image))!;
  }

  #end(job: StageJob, error?: AppError): void {
    if (!this.#jobs.delete(job)) return;
    for (const image of job.images) {
      clearTimeout(image.timer);
      image.status = "over";
    }
    job.ended(error);
    if (this.#isClosed) return;
    this.#admit();
    void this.#work();
  }

  #learnPace({ readyAt }: StagedImage): void {
    this.#pace.observe(performance.now() - readyAt, WEIGHT);
  }
}
