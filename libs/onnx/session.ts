import { basename } from "node:path";
import { SHARE_ENV, Worker } from "node:worker_threads";
import type { InferenceSession } from "onnxruntime-node";
import { AppError, invariant, notReady } from "#libs/errors/errors.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";
import {
  buffersOf, type CloseRequest, type OpenReply, type RunReply, type RunRequest, type SessionWorkerData,
  type TensorData, type TensorMap,
} from "#libs/onnx/session-messages.js";
import { count } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS } from "#libs/telemetry/names.js";

export type { TensorData, TensorMap };

/** How one run is done. */
export interface RunOptions {
  /**
   * Hand the feeds' buffers to the worker instead of copying them: the caller's arrays, and all others on the same
   * buffers, are empty afterwards. Default false: the caller keeps its feeds and may change them at once.
   */
  readonly transferFeeds?: boolean;
  /** Stops waiting, by rejecting with its reason. A run that has not begun never does; one under way ends unheard. */
  readonly signal?: AbortSignal;
}

interface PendingRun {
  readonly request: RunRequest;
  readonly resolve: (outputs: TensorMap) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * One ONNX graph in a worker thread of its own, so that the event loop stays free while it runs (ONNX Runtime's `run()`
 * blocks the thread that calls it). Runs happen one at a time in the order of their calls, whoever called.
 */
export class OnnxSession {
  /** The graph's inputs: names, types, shapes (a string is a free dimension). */
  readonly inputs: readonly InferenceSession.ValueMetadata[];
  /** The graph's outputs. */
  readonly outputs: readonly InferenceSession.ValueMetadata[];
  /** Settles once the thread has ended: undefined after `close()`, the error if it crashed. Never rejects. */
  readonly ended: Promise<AppError | undefined>;
  readonly #worker: Worker;
  readonly #name: string;
  readonly #waiting: PendingRun[] = [];
  #startedAt = 0;
  #running: PendingRun | undefined;
  #end: AppError | undefined;
  #closing = false;

  /**
   * Start a thread and load the graph at `path` into it. The caller closes the session.
   * @throws AppError as `createInferenceSession` does; messages name the file.
   */
  static async open(path: string, options: SessionOptions = {}): Promise<OnnxSession> {
    const worker = new Worker(new URL("./session-worker.js", import.meta.url), {
      workerData: { path, options } satisfies SessionWorkerData,
      // ONNX Runtime reads the variables of the process, of which a thread has a copy otherwise.
      env: SHARE_ENV,
    });
    const reply = await firstReply(worker, path);
    if (reply.type === "failed") throw new AppError(reply.kind, reply.message);
    return new OnnxSession(worker, basename(path), reply.inputs, reply.outputs);
  }

  private constructor(
    worker: Worker, name: string,
    inputs: readonly InferenceSession.ValueMetadata[], outputs: readonly InferenceSession.ValueMetadata[],
  ) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.#worker = worker;
    this.#name = name;
    let crash: unknown;
    worker.on("message", (reply: RunReply) => this.#finish(reply));
    worker.on("error", (error) => (crash = error));
    this.ended = new Promise((resolve) => worker.on("exit", (code) => {
      const error = this.#closing ? undefined : invariant(`the session of ${name} died, exit code ${code}`, crash);
      if (error !== undefined) this.#rejectAll(error);
      resolve(error);
    }));
  }

  /** Whether runs are still accepted: false once closed or crashed. */
  get alive(): boolean {
    return this.#end === undefined;
  }

  /**
   * Run the graph once all earlier calls are through.
   * @param feeds one tensor for each input; stays the caller's, see `transferFeeds`.
   * @param outputs names of the wanted outputs; all when left out. Unwanted ones are not fetched.
   * @returns the wanted outputs, on fresh buffers that the caller owns.
   * @throws AppError "internal" when the graph refuses the feeds or the thread dies, "not-ready" once closed; the
   *   signal's reason when it aborts.
   */
  async run(feeds: TensorMap, outputs?: readonly string[], options: RunOptions = {}): Promise<TensorMap> {
    const { transferFeeds = false, signal } = options;
    signal?.throwIfAborted();
    if (this.#end !== undefined) throw this.#end;
    const request: RunRequest = {
      type: "run",
      feeds: transferFeeds ? feeds : copyOf(feeds),
      ...(outputs === undefined ? {} : { outputs }),
    };
    let onAbort: (() => void) | undefined;
    try {
      return await new Promise<TensorMap>((resolve, reject) => {
        const run: PendingRun = { request, resolve, reject };
        onAbort = () => this.#abandon(run, signal?.reason);
        signal?.addEventListener("abort", onAbort);
        this.#waiting.push(run);
        this.#startNext();
      });
    } finally {
      if (onAbort !== undefined) signal?.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Reject pending runs with "not-ready", free the graph and end the thread, after the run under way if there is one.
   * May be called again.
   */
  async close(): Promise<void> {
    if (this.alive) {
      this.#closing = true;
      this.#rejectAll(notReady("the session is closed"));
      // Not `terminate()`: inside a run it makes ONNX Runtime's binding abort the whole process.
      this.#worker.postMessage({ type: "close" } satisfies CloseRequest);
    }
    await this.ended;
  }

  #startNext(): void {
    if (this.#running !== undefined) return;
    const run = this.#waiting.shift();
    if (run === undefined) return;
    this.#running = run;
    this.#startedAt = performance.now();
    try {
      this.#worker.postMessage(run.request, buffersOf(run.request.feeds));
    } catch (error) {
      this.#finish({ type: "failed", kind: "internal", message: AppError.from(error).message });
    }
  }

  #finish(reply: RunReply): void {
    const run = this.#running;
    this.#running = undefined;
    count(METRICS.graphBusy, (performance.now() - this.#startedAt) / 1000, { [ATTRIBUTES.graph]: this.#name });
    if (reply.type === "finished") run?.resolve(reply.outputs);
    else run?.reject(new AppError(reply.kind, reply.message));
    this.#startNext();
  }

  #abandon(run: PendingRun, reason: unknown): void {
    const index = this.#waiting.indexOf(run);
    if (index >= 0) this.#waiting.splice(index, 1);
    run.reject(reason);
  }

  #rejectAll(error: AppError): void {
    this.#end = error;
    this.#running?.reject(error);
    for (const run of this.#waiting.splice(0)) run.reject(error);
  }
}

/** The worker's first message; a thread that ends without one is an "internal" error that names the file. */
function firstReply(worker: Worker, path: string): Promise<OpenReply> {
  return new Promise((resolve, reject) => {
    const onExit = (): void => onError(undefined);
    const onError = (cause: unknown): void => reject(invariant(`the thread that loads ${path} died`, cause));
    worker.once("exit", onExit);
    worker.once("error", onError);
    worker.once("message", (reply: OpenReply) => {
      worker.off("exit", onExit);
      worker.off("error", onError);
      resolve(reply);
    });
  });
}

/** The same tensors on buffers of their own: a view would take its whole buffer along. */
function copyOf(tensors: TensorMap): TensorMap {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) =>
    [name, { ...tensor, data: tensor.data.slice() } as TensorData]));
}
