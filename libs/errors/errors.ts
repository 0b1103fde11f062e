/**
 * What went wrong, in terms of what the caller should do next.
 * `libs/rpc/status.ts` holds the gRPC code of each kind.
 */
export type ErrorKind =
  | "invalid-request"
  | "not-found"
  | "unsupported"
  | "mismatch"
  | "overloaded"
  | "not-ready"
  | "aborted"
  | "cancelled"
  | "deadline-exceeded"
  | "unauthenticated"
  | "permission-denied"
  | "internal";

/** One field of a request that breaks its rule. */
export interface FieldViolation {
  /** Path of the field as in the .proto file, e.g. `generation.guidance_scale`. */
  readonly field: string;
  /** The broken rule and the value, e.g. `must be 1 .. 100, got 0.5`. Never prompt text. */
  readonly description: string;
}

/** The parts of an `AppError` beside its kind and message. */
export interface AppErrorDetails {
  readonly violations?: readonly FieldViolation[];
  readonly retryDelayMs?: number;
  readonly errorId?: string;
  readonly cause?: unknown;
}

/** The only error that this project throws on purpose; its message is safe to show unless the kind is `internal`. */
export class AppError extends Error {
  readonly kind: ErrorKind;
  /** Empty unless the kind is `invalid-request`. */
  readonly violations: readonly FieldViolation[];
  /** When to try again, in milliseconds; only with `overloaded`. */
  readonly retryDelayMs?: number;
  /** Under which id the full error stands in a log; only with `internal`, and only once logged. */
  readonly errorId?: string;

  constructor(kind: ErrorKind, message: string, details: AppErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "AppError";
    this.kind = kind;
    this.violations = details.violations ?? [];
    if (details.retryDelayMs !== undefined) this.retryDelayMs = details.retryDelayMs;
    if (details.errorId !== undefined) this.errorId = details.errorId;
  }

  /**
   * Anything that was thrown, as an `AppError`: itself if it is one, an abort as `cancelled`, a timeout as
   * `deadline-exceeded`, everything else as `internal` with the original as its cause.
   */
  static from(error: unknown): AppError {
    if (error instanceof AppError) return error;
    if (isNamed(error, "AbortError")) return new AppError("cancelled", "the call was cancelled", { cause: error });
    if (isNamed(error, "TimeoutError")) return deadlineExceeded();
    const message = error instanceof Error ? error.message : String(error);
    return new AppError("internal", message, { cause: error });
  }
}

function isNamed(error: unknown, name: string): boolean {
  return typeof error === "object" && error !== null && (error as { name?: unknown }).name === name;
}

/**
 * One field breaks its rule: "`field` must be <rule>, got <value>".
 * @param rule what the field must be, without "must be".
 * @param value the offending number, length or name; leave it out for anything that could hold prompt text.
 */
export function invalidRequest(field: string, rule: string, value?: unknown): AppError {
  const got = value === undefined ? "" : `, got ${shown(value)}`;
  return invalidFields([{ field, description: `must be ${rule}${got}` }]);
}

/** Several fields break their rules at once; at least one violation. */
export function invalidFields(violations: readonly FieldViolation[]): AppError {
  const message = violations.map(({ field, description }) => `\`${field}\` ${description}`).join("; ");
  return new AppError("invalid-request", message, { violations });
}

/** What was asked for by name does not exist. */
export function notFound(message: string): AppError {
  return new AppError("not-found", message);
}

/** This build or the loaded model does not do what was asked for. */
export function unsupported(message: string): AppError {
  return new AppError("unsupported", message);
}

/** Two parts that must fit do not, and trying again won't help until someone has changed the set-up. */
export function mismatch(message: string): AppError {
  return new AppError("mismatch", message);
}

/**
 * There is no room now.
 * @param retryDelayMs when to try again, in milliseconds.
 */
export function overloaded(message: string, retryDelayMs: number): AppError {
  return new AppError("overloaded", message, { retryDelayMs });
}

/** Loading, draining, or a peer that cannot be reached: the same call may be tried again. */
export function notReady(message: string, cause?: unknown): AppError {
  return new AppError("not-ready", message, { cause });
}

/** Work already begun was lost: start over at a higher level. */
export function aborted(message: string): AppError {
  return new AppError("aborted", message);
}

/** The caller left. */
export function cancelled(): AppError {
  return new AppError("cancelled", "the call was cancelled");
}

/** The caller's time ran out, or is bound to. */
export function deadlineExceeded(message = "the deadline has passed"): AppError {
  return new AppError("deadline-exceeded", message);
}

/** A claim of our own code does not hold: our bug. The message goes to the log, never to a client. */
export function invariant(message: string, cause?: unknown): AppError {
  return new AppError("internal", message, { cause });
}

const MAX_SHOWN_LENGTH = 80;

function shown(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}...` : text;
}
