import type { ErrorKind } from "#libs/errors/errors.js";
import type { Manifest } from "#libs/bundle/manifest.js";
import type { ExecutionProvider } from "#libs/onnx/create-session.js";
import type { SequenceEvent, SequenceRequest } from "./sequence.js";

/** What the engine's thread is started with. */
export interface EngineThreadData {
  /** The transformer graph. */
  readonly graphFile: string;
  readonly manifest: Manifest;
  readonly threads: number;
  readonly provider: ExecutionProvider;
}

/** To the thread. */
export type EngineCommand =
  | { readonly type: "generate"; readonly id: number; readonly request: SequenceRequest }
  | { readonly type: "abort"; readonly id: number }
  /** Abort everything, free the model and end the thread. */
  | { readonly type: "close" };

/** From the thread. Every "generate" is answered by events and then exactly one "ended". */
export type EngineReply =
  | { readonly type: "ready" }
  | { readonly type: "event"; readonly id: number; readonly event: SequenceEvent }
  | { readonly type: "ended"; readonly id: number; readonly error?: { readonly kind: ErrorKind; readonly message: string } }
  | { readonly type: "failed"; readonly kind: ErrorKind; readonly message: string };
