import { deadlineExceeded, overloaded } from "#libs/errors/errors.js";

/** An image at work or ahead in the queue. */
export interface Work {
  /** Rows it holds or will hold. */
  readonly rows: number;
  /** Image tokens it still needs. */
  readonly tokens: number;
}

/** How far below the estimate a deadline must lie to be given up beforehand: estimates err. */
const CERTAINTY = 0.8;

/** When a request is likely to be served. */
export interface Estimate {
  /** Milliseconds until the first image of the request starts. */
  readonly startMs: number;
  /** Milliseconds until its last image is complete. */
  readonly finishMs: number;
}

/**
 * When a request would start and finish, by playing the queue through: every image's length is known exactly, so the only
 * unknown is the pace.
 * @param running images at work. @param ahead images before it in the queue, in order. @param asked its own images.
 * @param totalRows rows of the cache. @param msPerToken for one more token of every image at work.
 */
export function estimate(
  running: readonly Work[], ahead: readonly Work[], asked: readonly Work[], totalRows: number, msPerToken: number,
): Estimate {
  const length = ({ tokens }: Work) => tokens * msPerToken;
  const ends = running.map((work) => ({ at: length(work), rows: work.rows }));
  let free = totalRows - ends.reduce((sum, { rows }) => sum + rows, 0);
  let now = 0;
  const starts: number[] = [];
  let finishMs = 0;
  for (const work of [...ahead, ...asked]) {
    while (free < work.rows && ends.length > 0) {
      ends.sort((a, b) => b.at - a.at);
      const next = ends.pop()!;
      now = Math.max(now, next.at);
      free += next.rows;
    }
    free -= work.rows;
    const end = now + length(work);
    ends.push({ at: end, rows: work.rows });
    starts.push(now);
    finishMs = Math.max(finishMs, end);
  }
  return { startMs: starts[ahead.length] ?? 0, finishMs };
}

/** Whether a deadline `leftMs` from now can't hold. */
export function isHopeless({ finishMs }: Estimate, leftMs: number): boolean {
  return finishMs * CERTAINTY > leftMs;
}

/** A request at the door. */
export interface Arrival {
  /** One of its images would start at once. */
  readonly startsNow: boolean;
  /** Other requests that would still wait then. */
  readonly waiting: number;
  /** In ms as in `Date.now()`. */
  readonly deadline: number;
}

/** @throws AppError "overloaded" if too many requests wait, "deadline-exceeded" if the deadline can't hold. */
export function checkAdmission(expected: Estimate, { startsNow, waiting, deadline }: Arrival, maxWaiting: number): void {
  if (!startsNow && waiting >= maxWaiting) {
    throw overloaded(`the queue is full: ${waiting} requests wait`, Math.ceil(expected.startMs) + 1);
  }
  if (isHopeless(expected, deadline - Date.now())) {
    throw deadlineExceeded(`the deadline can't hold: the images are expected in ${Math.ceil(expected.finishMs)} ms`);
  }
}
