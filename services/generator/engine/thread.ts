import { parentPort, workerData } from "node:worker_threads";
import { AppError } from "#libs/errors/errors.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";
import { decodeImage } from "./decode-loop.js";
import { KvCache } from "./kv-cache.js";
import type { Model } from "./model.js";
import { layoutOf, OnnxModel } from "./onnx-model.js";
import type { EngineCommand, EngineReply, EngineThreadData } from "./thread-messages.js";

// The thread that runs the model: ONNX Runtime blocks its event loop for one pass at a time, so an abort is heard
// between passes.
const port = parentPort!;
const running = new Map<number, AbortController>();

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

async function generate(model: Model, { id, request }: Extract<EngineCommand, { type: "generate" }>): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    for await (const event of decodeImage(model, request, { signal: controller.signal })) {
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

async function start({ graphFile, manifest, threads, provider }: EngineThreadData): Promise<void> {
  const session = await createInferenceSession(graphFile, { threads, provider });
  const model = new OnnxModel(session, layoutOf(manifest));
  await warmUp(model);
  port.on("message", (command: EngineCommand) => {
    if (command.type === "abort") running.get(command.id)?.abort();
    else void generate(model, command);
  });
  reply({ type: "ready" });
}

try {
  await start(workerData as EngineThreadData);
} catch (error) {
  const { kind, message } = AppError.from(error);
  reply({ type: "failed", kind, message });
}
