import type { AppError } from "#libs/errors/errors.js";
import { ReplyBox } from "../engine/reply-box.js";
import type { StageEvent, StageRequest } from "./stage-generation.js";
import type { StagedImage } from "./staged-image.js";

/** A request in the engine: its images, and what its caller has yet to hear. */
export class StageJob {
  readonly request: StageRequest;
  readonly images: readonly StagedImage[];
  readonly #box = new ReplyBox<StageEvent>();
  #isStarted = false;
  #position: number | undefined;

  constructor(request: StageRequest, images: readonly StagedImage[]) {
    this.request = request;
    this.images = images;
  }

  /** Whether any of its images has had a slot. */
  get isStarted(): boolean {
    return this.#isStarted;
  }

  get isOver(): boolean {
    return this.#box.ended;
  }

  /** What happens, until the end. @throws the error that ended it. */
  async *events(): AsyncGenerator<StageEvent, void, undefined> {
    for (let event = await this.#box.next(); event !== undefined; event = await this.#box.next()) yield event;
  }

  /** Its place in the queue, 1 being the next, and the time until it starts; heard when the place changes. */
  queued(position: number, estimatedStartMs: number): void {
    if (this.#isStarted || position === this.#position) return;
    this.#position = position;
    this.#box.put({ type: "queued", position, estimatedStartMs });
  }

  started({ imageIndex }: StagedImage): void {
    this.#isStarted = true;
    this.#box.put({ type: "started", imageIndex });
  }

  mapped({ imageIndex }: StagedImage, stage: number, [conditional, unconditional]: readonly Float32Array[]): void {
    this.#box.put({ type: "map", imageIndex, stage, conditional, unconditional });
  }

  finished({ imageIndex, timings }: StagedImage): void {
    this.#box.put({ type: "finished", imageIndex, timings });
  }

  /** There is no more to come. */
  ended(error?: AppError): void {
    this.#box.end(error);
  }
}
