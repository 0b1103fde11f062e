import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { AppError, invariant, notReady } from "#libs/errors/errors.js";
import type { Engine } from "./engine.js";
import type { ModelLayout } from "./model.js";
import { layoutOf } from "./onnx-model.js";
import type { SequenceEvent, SequenceRequest } from "./sequence.js";
import type { EngineCommand, EngineReply, EngineThreadData } from "./thread-messages.js";

/** The replies to one request, in order, waiting to be read. At most one image's tokens ever wait here. */
class ReplyBox {
  readonly #events: SequenceEvent[] = [];
  #outcome: { readonly error?: AppError } | undefined;
  #wake: () => void = () => {};

  put(event: SequenceEvent): void {
    this.#events.push(event);
    this.#wake();
  }

  end(error?: AppError): void {
    this.#outcome ??= error === undefined ? {} : { error };
    this.#wake();
  }

  get ended(): boolean {
    return this.#outcome !== undefined;
  }

  /** The next event; undefined at the end. @throws the error that ended it. */
  async next(): Promise<SequenceEvent | undefined> {
    while (this.#events.length === 0 && this.#outcome === undefined) await this.#change();
    const event = this.#events.shift();
    if (event === undefined && this.#outcome?.error !== undefined) throw this.#outcome.error;
    return event;
  }

  /** Drop what comes until the end. */
  async drain(): Promise<void> {
    while (this.#outcome === undefined) await this.#change();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }
}

/** An engine in a worker thread of its own: the caller's event loop stays free during every pass. */
export class ThreadEngine implements Engine {
  readonly layout: ModelLayout;
  readonly ended: Promise<AppError | undefined>;
  readonly #worker: Worker;
  readonly #boxes = new Map<number, ReplyBox>();
  #nextId = 0;
  #closing = false;

  /** Load and warm the model. @throws AppError naming the file when it cannot be loaded. */
  static async open(data: EngineThreadData): Promise<ThreadEngine> {
    const worker = new Worker(new URL("./thread.js", import.meta.url), { workerData: data });
    try {
      const [reply] = (await once(worker, "message")) as [EngineReply];
      if (reply.type === "failed") throw new AppError(reply.kind, reply.message);
      return new ThreadEngine(worker, layoutOf(data.manifest));
    } catch (error) {
      await worker.terminate();
      throw error;
    }
  }

  private constructor(worker: Worker, layout: ModelLayout) {
    this.layout = layout;
    this.#worker = worker;
    let crash: unknown;
    worker.on("message", (reply: EngineReply) => this.#receive(reply));
    worker.on("error", (error) => (crash = error));
    this.ended = new Promise((resolve) => worker.once("exit", () => {
      const error = this.#closing ? undefined : invariant("the engine's thread died", crash);
      for (const box of this.#boxes.values()) box.end(error ?? notReady("the engine is closed"));
      resolve(error);
    }));
  }

  async *generate(
    request: SequenceRequest, { signal }: { readonly signal: AbortSignal },
  ): AsyncGenerator<SequenceEvent, void, undefined> {
    signal.throwIfAborted();
    if (this.#closing) throw notReady("the engine is closed");
    const id = this.#nextId++;
    const box = new ReplyBox();
    this.#boxes.set(id, box);
    const abort = () => this.#send({ type: "abort", id });
    signal.addEventListener("abort", abort, { once: true });
    this.#send({ type: "generate", id, request });
    try {
      for (let event = await box.next(); event !== undefined; event = await box.next()) yield event;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
      if (!box.ended) abort();
      await box.drain();
      this.#boxes.delete(id);
    }
  }

  async close(): Promise<void> {
    if (!this.#closing) this.#send({ type: "close" });
    this.#closing = true;
    await this.ended;
  }

  #send(command: EngineCommand): void {
    this.#worker.postMessage(command);
  }

  #receive(reply: EngineReply): void {
    if (reply.type === "event") this.#boxes.get(reply.id)?.put(reply.event);
    if (reply.type === "ended") {
      this.#boxes.get(reply.id)?.end(reply.error && new AppError(reply.error.kind, reply.error.message));
    }
  }
}
