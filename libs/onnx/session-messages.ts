import type { InferenceSession, Tensor } from "onnxruntime-node";
import type { ErrorKind } from "#libs/errors/errors.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";

/** A tensor as it crosses threads. `data` is row-major and holds exactly the product of `dims` elements. */
export interface TensorData {
  readonly type: Tensor.Type;
  readonly dims: readonly number[];
  readonly data: Tensor.DataTypeMap[Exclude<Tensor.Type, "string">];
}

/** Tensors by the graph's own input or output names. */
export type TensorMap = Readonly<Record<string, TensorData>>;

/** What the worker is started with. */
export interface SessionWorkerData {
  readonly path: string;
  readonly options: SessionOptions;
}

/** Asks the worker for one run; it answers with one `RunReply`. */
export interface RunRequest {
  readonly type: "run";
  readonly feeds: TensorMap;
  /** Names of the wanted outputs; all when left out. */
  readonly outputs?: readonly string[];
}

/** Asks the worker to finish its runs, free the graph and end. */
export interface CloseRequest {
  readonly type: "close";
}

/** An error on its way between threads. */
export interface ErrorReply {
  readonly type: "failed";
  readonly kind: ErrorKind;
  readonly message: string;
}

/** The worker's first message. */
export type OpenReply = ErrorReply | {
  readonly type: "opened";
  readonly inputs: readonly InferenceSession.ValueMetadata[];
  readonly outputs: readonly InferenceSession.ValueMetadata[];
};

/** The worker's answer to one run. */
export type RunReply = ErrorReply | { readonly type: "finished"; readonly outputs: TensorMap };

/** The buffers under some tensors, each once: what `postMessage` is to transfer. */
export function buffersOf(tensors: TensorMap): ArrayBuffer[] {
  return [...new Set(Object.values(tensors).map(({ data }) => data.buffer as ArrayBuffer))];
}
