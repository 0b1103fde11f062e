import {
  context, SpanKind, SpanStatusCode, trace, type Attributes, type Context, type Span,
} from "@opentelemetry/api";
import { AppError } from "#libs/errors/errors.js";
import { ATTRIBUTES, SCOPE } from "./names.js";

/** A span with an owner, who must end it: in a `finally`, so that it is exported after a cancel too. */
export interface OwnedSpan {
  /** Parent of what happens inside: pass it to `openSpan`, or run code in it with `inContext`. */
  readonly context: Context;
  set(attributes: Attributes): void;
  /** Mark as failed, by kind only: messages may hold what must not leave. */
  fail(error: unknown): void;
  end(): void;
}

/** How a span is opened. */
export interface SpanOptions {
  readonly attributes?: Attributes;
  /** Default: the active context. In an async generator pass it explicitly, for `yield` loses the active one. */
  readonly parent?: Context;
  readonly kind?: SpanKind;
}

/** Open a span; it is not made active. Costs next to nothing while telemetry is off. */
export function openSpan(name: string, options: SpanOptions = {}): OwnedSpan {
  const { attributes = {}, parent = context.active(), kind = SpanKind.INTERNAL } = options;
  const span = trace.getTracer(SCOPE).startSpan(name, { kind, attributes }, parent);
  return {
    context: trace.setSpan(parent, span),
    set: (more) => void span.setAttributes(more),
    fail: (error) => markFailed(span, AppError.from(error).kind),
    end: () => span.end(),
  };
}

/** Run work in a span, active for all that it calls. The span ends with the work, failed if the work throws. */
export async function inSpan<T>(
  name: string, options: SpanOptions, work: (span: OwnedSpan) => Promise<T>,
): Promise<T> {
  const span = openSpan(name, options);
  try {
    return await context.with(span.context, () => work(span));
  } catch (error) {
    span.fail(error);
    throw error;
  } finally {
    span.end();
  }
}

/** Run code with a context active, e.g. to make a call whose span gets that parent. */
export function inContext<T>(active: Context, work: () => T): T {
  return context.with(active, work);
}

/**
 * An async generator whose body always runs in one context, whoever resumes it: the active context would otherwise be
 * the resumer's after each `yield`.
 */
export function bindGenerator<T, R>(active: Context, generator: AsyncGenerator<T, R, undefined>): AsyncGenerator<T, R, undefined> {
  const bound = {
    next: () => context.with(active, () => generator.next()),
    return: (value: R | PromiseLike<R>) => context.with(active, () => generator.return(value)),
    throw: (error: unknown) => context.with(active, () => generator.throw(error)),
    [Symbol.asyncIterator]: () => bound,
  } as AsyncGenerator<T, R, undefined>;
  return bound;
}

function markFailed(span: Span, kind: string): void {
  span.setAttribute(ATTRIBUTES.errorType, kind);
  span.setStatus({ code: SpanStatusCode.ERROR, message: kind });
}
