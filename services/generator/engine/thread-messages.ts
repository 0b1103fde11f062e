import type { TokenManifest } from "#libs/bundle/manifest.js";
import { AppError, type ErrorKind, type FieldViolation } from "#libs/errors/errors.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";
import type { EngineLimits } from "./engine.js";
import type { GenerationEvent, GenerationRequest } from "./generation.js";
import type { PassRecord } from "./model-runner.js";
import type { EngineSnapshot } from "./snapshot.js";

/** What the engine's thread is started with. */
export interface EngineThreadData {
  /** The transformer graph. */
  readonly graphFile: string;
  readonly manifest: TokenManifest;
  readonly session: SessionOptions;
  readonly limits: EngineLimits;
}

/** To the thread. */
export type EngineCommand =
  | { readonly type: "submit"; readonly id: number; readonly request: GenerationRequest }
  | { readonly type: "abort"; readonly id: number }
  /** Abort everything, free the model and end the thread. */
  | { readonly type: "close" };

/** An `AppError` on its way between threads. */
export interface ErrorMessage {
  readonly kind: ErrorKind;
  readonly message: string;
  readonly violations: readonly FieldViolation[];
  readonly retryDelayMs?: number;
}

/** What became of one request. Every "submit" is answered by events and then exactly one "ended". */
export type RequestReply =
  | { readonly type: "event"; readonly id: number; readonly event: GenerationEvent }
  | { readonly type: "ended"; readonly id: number; readonly error?: ErrorMessage };

/** From the thread. */
export type EngineMessage =
  | { readonly type: "ready"; readonly snapshot: EngineSnapshot }
  | { readonly type: "failed"; readonly error: ErrorMessage }
  /** All that a step brought about. */
  | {
    readonly type: "stepped"; readonly replies: readonly RequestReply[]; readonly passes: readonly PassRecord[];
    readonly snapshot?: EngineSnapshot;
  };

/** Anything thrown, ready to be posted. */
export function toErrorMessage(error: unknown): ErrorMessage {
  const { kind, message, violations, retryDelayMs } = AppError.from(error);
  return { kind, message, violations, ...(retryDelayMs !== undefined && { retryDelayMs }) };
}

/** The error that was posted. */
export function fromErrorMessage({ kind, message, ...details }: ErrorMessage): AppError {
  return new AppError(kind, message, details);
}
