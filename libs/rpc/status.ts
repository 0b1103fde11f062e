import { randomBytes } from "node:crypto";
import { Status } from "nice-grpc";
import { AppError, type ErrorKind, type FieldViolation } from "#libs/errors/errors.js";
import { MAX_STATUS_BYTES } from "./limits.js";
import { decodeStatusDetails, encodeStatusDetails } from "./status-details.js";

/** The trailer that carries the details of a status. */
export const DETAILS_TRAILER = "grpc-status-details-bin";

/** What a failed call ends with on the wire. */
export interface RpcStatus {
  readonly code: Status;
  readonly message: string;
  /** The value of `DETAILS_TRAILER`. */
  readonly details: Uint8Array;
}

const CODES: Readonly<Record<ErrorKind, Status>> = {
  "invalid-request": Status.INVALID_ARGUMENT,
  "not-found": Status.NOT_FOUND,
  "unsupported": Status.UNIMPLEMENTED,
  "mismatch": Status.FAILED_PRECONDITION,
  "overloaded": Status.RESOURCE_EXHAUSTED,
  "not-ready": Status.UNAVAILABLE,
  "aborted": Status.ABORTED,
  "cancelled": Status.CANCELLED,
  "deadline-exceeded": Status.DEADLINE_EXCEEDED,
  "unauthenticated": Status.UNAUTHENTICATED,
  "permission-denied": Status.PERMISSION_DENIED,
  "internal": Status.INTERNAL,
};

const KINDS: Readonly<Partial<Record<Status, ErrorKind>>> = {
  ...Object.fromEntries(Object.entries(CODES).map(([kind, code]) => [code, kind as ErrorKind])),
  // Codes that this project never sends, from peers that do.
  [Status.OUT_OF_RANGE]: "invalid-request",
  [Status.ALREADY_EXISTS]: "mismatch",
};

/** The gRPC code of a kind. */
export function statusCode(kind: ErrorKind): Status {
  return CODES[kind];
}

/**
 * The status that tells a caller of an error. Of an `internal` one the caller learns an id and nothing else: the
 * error's own, if it was logged before, or a new one that the caller of this function must log it under.
 */
export function statusOf(error: AppError): RpcStatus & { readonly errorId?: string } {
  const code = CODES[error.kind];
  if (error.kind === "internal") {
    const errorId = error.errorId ?? randomBytes(8).toString("hex");
    const message = `internal error ${errorId}`;
    return { code, message, errorId, details: encodeStatusDetails(code, message, { errorId }) };
  }
  const message = cut(error.message);
  const { retryDelayMs } = error;
  const violations = withinBytes(error.violations, MAX_STATUS_BYTES);
  return { code, message, details: encodeStatusDetails(code, message, { violations, ...(retryDelayMs !== undefined && { retryDelayMs }) }) };
}

/** The first violations, as many as fit. */
function withinBytes(violations: readonly FieldViolation[], maxBytes: number): readonly FieldViolation[] {
  let bytes = 0;
  return violations.filter(({ field, description }) => {
    bytes += Buffer.byteLength(field) + Buffer.byteLength(description);
    return bytes <= maxBytes;
  });
}

/** A text of at most `MAX_STATUS_BYTES` in UTF-8. */
export function cut(text: string): string {
  if (Buffer.byteLength(text) <= MAX_STATUS_BYTES) return text;
  // Half a character at the end would become U+FFFD.
  return `${Buffer.from(text).subarray(0, MAX_STATUS_BYTES - 3).toString().replace(/\uFFFD$/, "")}...`;
}

/**
 * The error that a status from a peer stands for; violations, retry delay and error id come from its details.
 * @param cause the error that brought the status, kept for the log.
 */
export function errorOf(status: { code: Status; message: string; details?: Uint8Array }, cause?: unknown): AppError {
  const kind = KINDS[status.code] ?? "internal";
  const details = status.details === undefined ? {} : decodeStatusDetails(status.details);
  return new AppError(kind, status.message, { ...details, cause });
}
