import { parentPort, workerData } from "node:worker_threads";
import { type InferenceSession, Tensor } from "onnxruntime-node";
import { AppError } from "#libs/errors/errors.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";
import {
  buffersOf, type CloseRequest, type ErrorReply, type OpenReply, type RunReply, type RunRequest, type SessionWorkerData,
  type TensorMap,
} from "#libs/onnx/session-messages.js";

// The thread behind OnnxSession: loads one graph, then answers each RunRequest with one RunReply, in order.
const port = parentPort;
if (port === null) throw new Error("session-worker.ts runs in a worker thread only");
const { path, options } = workerData as SessionWorkerData;

try {
  const session = await createInferenceSession(path, options);
  let lastRun = Promise.resolve();
  const run = async (request: RunRequest): Promise<void> => {
    const reply = await answer(session, request);
    port.postMessage(reply, reply.type === "finished" ? buffersOf(reply.outputs) : []);
  };
  port.on("message", async (request: RunRequest | CloseRequest) => {
    if (request.type === "run") lastRun = run(request);
    else {
      await lastRun;
      await session.release();
      port.close();
    }
  });
  port.postMessage({ type: "opened", inputs: session.inputMetadata, outputs: session.outputMetadata } satisfies OpenReply);
} catch (error) {
  // Nothing listens here, so the thread ends by itself.
  port.postMessage(failure(error) satisfies OpenReply);
}

async function answer(session: InferenceSession, { feeds, outputs }: RunRequest): Promise<RunReply> {
  try {
    const tensors = Object.entries(feeds).map(([name, { type, data, dims }]) => [name, new Tensor(type, data, dims)]);
    const results = await session.run(Object.fromEntries(tensors), outputs ?? session.outputNames);
    const finished = Object.entries(results).map(([name, { type, dims, data }]) => [name, { type, dims, data }]);
    return { type: "finished", outputs: Object.fromEntries(finished) as TensorMap };
  } catch (error) {
    return failure(error);
  }
}

function failure(error: unknown): ErrorReply {
  const { kind, message } = AppError.from(error);
  return { type: "failed", kind, message };
}
