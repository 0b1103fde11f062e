import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "#libs/errors/errors.js";
import { decodeImage } from "./decode-loop.js";
import { KvCache } from "./kv-cache.js";
import type { Model } from "./model.js";
import { layoutOf, OnnxModel } from "./onnx-model.js";
import type { SequenceRequest } from "./sequence.js";
import type { EngineCommand, EngineReply, EngineThreadData } from "./thread-messages.js";

// The thread that runs the model: ONNX Runtime blocks its event loop for one pass at a time, so an abort is heard
// between passes.
const port = parentPort!;
const running = new Map<number, { readonly controller: AbortController; readonly ended: Promise<void> }>();

function reply(message: EngineReply): void {
  port.postMessage(message);
}

/** One prefill and one decode step, so that the first request does not pay for lazy allocations. */
async function warmUp(model: Model): Promise<void> {
  const cache = new KvCache(model.layout, 2, 4);
  const ids = new BigInt64Array(2).fill(BigInt(model.layout.tokenOffset));
  for (const firstRow of [0, 1]) await model.forward({ cache, firstRow, rows: 1, ids });
  await model.forward({ cache, firstRow: 0, rows: 2, ids });
}

async function generate(model: Model, id: number, request: SequenceRequest, signal: AbortSignal): Promise<void> {
  try {
    for await (const event of decodeImage(model, request, { signal })) {
      reply({ type: "event", id, event });
    }
    reply({ type: "ended", id });
  } catch (error) {
    const { kind, message } = AppError.from(error);
    reply({ type: "ended", id, error: { kind, message } });
  } finally {
    running.delete(id);
  }
}

function begin(model: Model, id: number, request: SequenceRequest): void {
  const controller = new AbortController();
  running.set(id, { controller, ended: generate(model, id, request, controller.signal) });
}

/** `terminate()` from outside would abort the whole process if it came inside a pass of ONNX Runtime. */
async function close(model: OnnxModel): Promise<void> {
  for (const { controller } of running.values()) controller.abort();
  await Promise.all([...running.values()].map(({ ended }) => ended));
  await model.release();
  port.close();
}

async function start({ graphFile, manifest, threads, provider }: EngineThreadData): Promise<void> {
  const model = await OnnxModel.open(graphFile, layoutOf(manifest), { threads, provider });
  await warmUp(model);
  port.on("message", (command: EngineCommand) => {
    if (command.type === "generate") begin(model, command.id, command.request);
    else if (command.type === "abort") running.get(command.id)?.controller.abort();
    else void close(model);
  });
  reply({ type: "ready" });
}

try {
  await start(workerData as EngineThreadData);
} catch (error) {
  const { kind, message } = AppError.from(error);
  reply({ type: "failed", kind, message });
}
