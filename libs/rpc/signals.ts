import { setMaxListeners } from "node:events";
import { AppError, deadlineExceeded } from "#libs/errors/errors.js";
import { DEADLINE_SLACK_MS } from "./limits.js";

/** A signal with an owner, who must release it. */
export interface OwnedSignal {
  /** Its reason is always an `AppError`. */
  readonly signal: AbortSignal;
  /** Stop listening and stop the timer; the signal never fires afterwards. */
  release(): void;
}

/** The longest delay that a Node timer takes; about 25 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A signal that fires with the first of its sources, or at the deadline.
 * Not `AbortSignal.any`: that one cannot be released, and a source may live as long as the process.
 * @param deadline in ms as in `Date.now()`, or `Infinity`.
 */
export function linkSignals(sources: readonly AbortSignal[], deadline: number): OwnedSignal {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const listeners = sources.map((source) => () => fire(reasonOf(source, deadline)));
  const release = () => {
    clearTimeout(timer);
    sources.forEach((source, index) => source.removeEventListener("abort", listeners[index]));
  };
  const fire = (reason: AppError) => {
    // Before the abort: its listeners may never return, and then nobody else would stop the timer.
    release();
    controller.abort(reason);
  };
  for (const [index, source] of sources.entries()) {
    // One source may be that of many calls at a time. Node.js would take more than ten for a leak, and warn.
    setMaxListeners(0, source);
    source.addEventListener("abort", listeners[index]);
  }
  const fired = sources.findIndex((source) => source.aborted);
  const remaining = Math.max(0, deadline - Date.now());
  if (fired >= 0) listeners[fired]();
  else if (remaining <= MAX_TIMER_MS) timer = setTimeout(() => fire(deadlineExceeded()), remaining);
  return { signal: controller.signal, release };
}

function reasonOf(source: AbortSignal, deadline: number): AppError {
  const reason = AppError.from(source.reason);
  return reason.kind === "cancelled" && Date.now() >= deadline - DEADLINE_SLACK_MS ? deadlineExceeded() : reason;
}
