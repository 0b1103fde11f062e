import { once } from "node:events";
import { SHARE_ENV, Worker } from "node:worker_threads";
import { type AppError, invariant, notReady } from "#libs/errors/errors.js";
import type { GenerationEvent, GenerationRequest } from "./generation.js";
import type { PassRecord } from "./model-runner.js";
import type { ModelLayout } from "./model.js";
import { layoutOf } from "./onnx-model.js";
import { ReplyBox } from "./reply-box.js";
import type { EngineSnapshot } from "./snapshot.js";
import { type EngineCommand, type EngineMessage, type EngineThreadData, fromErrorMessage } from "./thread-messages.js";

/** An engine in a worker thread of its own: the caller's event loop stays free during every pass. */
export class ThreadEngine {
  readonly layout: ModelLayout;
  /** Settles once the engine can work no more: undefined after `close()`, the error if it died. Never rejects. */
  readonly ended: Promise<AppError | undefined>;
  readonly #worker: Worker;
  readonly #boxes = new Map<number, ReplyBox<GenerationEvent>>();
  #onPasses: (passes: readonly PassRecord[]) => void = () => {};
  #onRelease: (ms: number) => void = () => {};
  #snapshot: EngineSnapshot;
  #heardAt = performance.now();
  #nextId = 0;
  #closing = false;

  /** Start the thread, load and warm up the model. @throws AppError naming the file when it cannot be loaded. */
  static async open(data: EngineThreadData): Promise<ThreadEngine> {
    const worker = new Worker(new URL("./thread.js", import.meta.url), { workerData: data, env: SHARE_ENV });
    const [message] = (await once(worker, "message")) as [EngineMessage];
    if (message.type === "ready") return new ThreadEngine(worker, layoutOf(data.manifest), message.snapshot);
    // It ends by itself; its error is the one that was posted.
    worker.on("error", () => {});
    throw message.type === "failed" ? fromErrorMessage(message.error) : invariant("the engine's thread began with work");
  }

  private constructor(worker: Worker, layout: ModelLayout, snapshot: EngineSnapshot) {
    this.layout = layout;
    this.#worker = worker;
    this.#snapshot = snapshot;
    let crash: unknown;
    worker.on("message", (message: EngineMessage) => this.#receive(message));
    worker.on("error", (error) => (crash = error));
    this.ended = new Promise((resolve) => worker.once("exit", () => {
      const error = this.#closing ? undefined : invariant("the engine's thread died", crash);
      for (const box of this.#boxes.values()) box.end(error ?? notReady("the engine is closed"));
      resolve(error);
    }));
  }

  /** How the engine stood lately: a fraction of a second ago while it works, now if it is idle. */
  get snapshot(): EngineSnapshot {
    return this.#snapshot;
  }

  /** Tell one listener about every pass of the model. */
  onPasses(listener: (passes: readonly PassRecord[]) => void): void {
    this.#onPasses = listener;
  }

  /** Tell one listener how many milliseconds it took from each cancel until the engine had let go. */
  onRelease(listener: (ms: number) => void): void {
    this.#onRelease = listener;
  }

  /**
   * Generate the images of a request. When the iteration ends, for whatever reason, the engine has stopped working on it.
   * @throws AppError as `Engine.submit` does; the signal's reason, at most one step after it aborts.
   */
  async *generate(
    request: GenerationRequest, { signal }: { readonly signal: AbortSignal },
  ): AsyncGenerator<GenerationEvent, void, undefined> {
    signal.throwIfAborted();
    if (this.#closing) throw notReady("the engine is closed");
    const id = this.#nextId++;
    const box = new ReplyBox<GenerationEvent>();
    if (!this.#isAwaited) this.#heardAt = performance.now();
    this.#boxes.set(id, box);
    let leftAt: number | undefined;
    const leave = () => {
      leftAt ??= performance.now();
      this.#send({ type: "abort", id });
    };
    signal.addEventListener("abort", leave, { once: true });
    this.#send({ type: "submit", id, request });
    try {
      for (let event = await box.next(); event !== undefined; event = await box.next()) yield event;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", leave);
      if (!box.ended) leave();
      await box.drain();
      if (leftAt !== undefined) this.#onRelease(performance.now() - leftAt);
      this.#boxes.delete(id);
    }
  }

  /** Whether it has work and has completed no step for `stallMs`: it has hung. */
  isStalled(stallMs: number): boolean {
    return this.#isAwaited && performance.now() - this.#heardAt > stallMs;
  }

  /** Stop and free everything; calling it again does nothing. */
  async close(): Promise<void> {
    if (!this.#closing) this.#send({ type: "close" });
    this.#closing = true;
    await this.ended;
  }

  /** Whether any request has not ended: one that has, and is slow to be read, is not the engine's to work on. */
  get #isAwaited(): boolean {
    return [...this.#boxes.values()].some(({ ended }) => !ended);
  }

  #send(command: EngineCommand): void {
    this.#worker.postMessage(command);
  }

  #receive(message: EngineMessage): void {
    if (message.type !== "stepped") return;
    this.#heardAt = performance.now();
    for (const reply of message.replies) {
      const box = this.#boxes.get(reply.id);
      if (reply.type === "event") box?.put(reply.event);
      else box?.end(reply.error && fromErrorMessage(reply.error));
    }
    if (message.snapshot !== undefined) this.#snapshot = message.snapshot;
    this.#onPasses(message.passes);
  }
}
