import { setImmediate } from "node:timers/promises";
import { parentPort, workerData } from "node:worker_threads";
import { cancelled, invariant } from "#libs/errors/errors.js";
import { Engine } from "./engine.js";
import { layoutOf, OnnxModel } from "./onnx-model.js";
import {
  type EngineCommand, type EngineMessage, type EngineThreadData, type RequestReply, toErrorMessage,
} from "./thread-messages.js";

// The thread that runs the engine: ONNX Runtime blocks its event loop for one pass at a time, so commands are heard
// between passes.

/** Time for trial passes before the first request. */
const WARM_UP_MS = 1000;

/** How often a snapshot goes out while there is work; a busy engine that sends none for long has hung. */
const SNAPSHOT_INTERVAL_MS = 50;

const port = parentPort!;

function post(message: EngineMessage): void {
  port.postMessage(message);
}

/** Steps the engine as long as there is work, and posts what each step brings about in one message. */
class Loop {
  readonly #engine: Engine;
  readonly #model: OnnxModel;
  /** The engine's ids of the requests under way, by the caller's. */
  readonly #ids = new Map<number, number>();
  #replies: RequestReply[] = [];
  #snapshotAt = 0;
  #isClosing = false;
  #wake: () => void = () => {};

  constructor(engine: Engine, model: OnnxModel) {
    this.#engine = engine;
    this.#model = model;
  }

  take(command: EngineCommand): void {
    if (command.type === "submit") this.#submit(command);
    if (command.type === "abort") this.#abort(command.id);
    if (command.type === "close") {
      this.#isClosing = true;
      for (const id of this.#ids.keys()) this.#abort(id);
    }
    this.#wake();
  }

  /** Work until the end. `terminate()` from outside would abort the whole process if it came inside a pass. */
  async run(): Promise<void> {
    while (!this.#isClosing || !this.#engine.isIdle) {
      if (this.#engine.isIdle) await this.#rest();
      else await this.#engine.step();
      this.#postReplies();
      await setImmediate();
    }
    await this.#model.release();
    port.close();
  }

  /** Until there is something to do. Books that are wrong now would never come right: better begin anew. */
  async #rest(): Promise<void> {
    const problems = this.#engine.checkInvariants();
    if (problems.length > 0) throw invariant(`the idle engine's books are wrong: ${problems.join("; ")}`);
    await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  #submit({ id, request }: EngineCommand & { readonly type: "submit" }): void {
    try {
      const engineId = this.#engine.submit(request, {
        event: (event) => {
          this.#replies.push({ type: "event", id, event });
          // The others are as late as the step that they come from; a pass of the model must not hold these up.
          if (event.type === "queued" || event.type === "started") this.#postReplies();
        },
        ended: (error) => {
          this.#ids.delete(id);
          this.#replies.push({ type: "ended", id, ...(error && { error: toErrorMessage(error) }) });
        },
      });
      this.#ids.set(id, engineId);
    } catch (error) {
      this.#replies.push({ type: "ended", id, error: toErrorMessage(error) });
      // No step comes of it that would post it.
      this.#postReplies();
    }
  }

  #abort(id: number): void {
    const engineId = this.#ids.get(id);
    if (engineId !== undefined) this.#engine.abort(engineId, cancelled());
  }

  #postReplies(): void {
    const now = performance.now();
    const isDue = this.#engine.isIdle || now - this.#snapshotAt >= SNAPSHOT_INTERVAL_MS;
    if (this.#replies.length === 0 && !isDue) return;
    if (isDue) this.#snapshotAt = now;
    const passes = this.#engine.takePasses();
    post({ type: "stepped", replies: this.#replies, passes, ...(isDue && { snapshot: this.#engine.snapshot }) });
    this.#replies = [];
  }
}

async function start({ graphFile, manifest, session, limits }: EngineThreadData): Promise<void> {
  const model = await OnnxModel.open(graphFile, layoutOf(manifest), session);
  const engine = new Engine(model, limits);
  await engine.warmUp(WARM_UP_MS);
  const loop = new Loop(engine, model);
  port.on("message", (command: EngineCommand) => loop.take(command));
  post({ type: "ready", snapshot: engine.snapshot });
  await loop.run();
}

try {
  await start(workerData as EngineThreadData);
} catch (error) {
  post({ type: "failed", error: toErrorMessage(error) });
  throw error;
}
