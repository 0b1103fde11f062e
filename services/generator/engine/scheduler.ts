import { PRIORITIES, type Priority } from "./generation.js";

/** How long a less urgent image waits before it counts as a normal one, in milliseconds. */
export const AGEING_MS = 30_000;

/** A sequence that wants rows. */
export interface WaitingSequence {
  readonly id: number;
  readonly rows: number;
  readonly priority: Priority;
  /** As in `performance.now()`. */
  readonly arrivedAt: number;
}

/** A sequence that has rows. */
export interface RunningSequence extends WaitingSequence {
  readonly startedAt: number;
}

/** Who gets rows in the next step, and who gives them up. */
export interface AdmissionPlan {
  readonly preempt: readonly number[];
  readonly admit: readonly number[];
}

function rank(priority: Priority): number {
  return PRIORITIES.indexOf(priority);
}

/**
 * Its class, or the normal one after `AGEING_MS`: normal images never keep a less urgent one waiting for ever. Nobody ages
 * beyond that, or a long queue of the less urgent would go before what is urgent.
 */
function agedRank({ priority, arrivedAt }: WaitingSequence, now: number): number {
  return now - arrivedAt < AGEING_MS ? rank(priority) : Math.max(rank("normal"), rank(priority));
}

/** The order in which sequences get their turn: the most urgent first, then by arrival. */
export function inTurn<T extends WaitingSequence>(waiting: readonly T[], now: number): readonly T[] {
  return [...waiting].sort((a, b) => agedRank(b, now) - agedRank(a, now) || a.arrivedAt - b.arrivedAt || a.id - b.id);
}

/**
 * Fill free rows in turn. Nobody overtakes a sequence that does not fit, so that a pair is not starved by single rows.
 * A sequence that finds no rows takes those of running ones that are less urgent by their class, age included, the least
 * urgent and then the latest started first; a sequence does not preempt by age, only by its own class.
 */
export function planAdmission(
  waiting: readonly WaitingSequence[], running: readonly RunningSequence[], freeRows: number, now: number,
): AdmissionPlan {
  const preempt: number[] = [];
  const admit: number[] = [];
  const victims = [...running].sort((a, b) => agedRank(a, now) - agedRank(b, now) || b.startedAt - a.startedAt);
  let free = freeRows;
  for (const sequence of inTurn(waiting, now)) {
    const taken: RunningSequence[] = [];
    let room = free;
    for (const victim of victims) {
      if (room >= sequence.rows) break;
      if (agedRank(victim, now) >= rank(sequence.priority)) break;
      taken.push(victim);
      room += victim.rows;
    }
    if (room < sequence.rows) break;
    victims.splice(0, taken.length);
    preempt.push(...taken.map(({ id }) => id));
    admit.push(sequence.id);
    free = room - sequence.rows;
  }
  return { preempt, admit };
}

/** How things stand once the next step has given rows out. */
export interface Outlook<T> {
  readonly admitted: ReadonlySet<T>;
  /** Those that have rows already and keep them. */
  readonly running: readonly T[];
  /** Those that want rows, the admitted ones and those that gave way among them, in turn. */
  readonly queue: readonly T[];
}

/** What the next step will make of these; as `planAdmission`. */
export function lookAhead<T extends RunningSequence>(
  waiting: readonly T[], running: readonly T[], freeRows: number, now: number,
): Outlook<T> {
  const { admit, preempt } = planAdmission(waiting, running, freeRows, now);
  const [victims, kept] = [running.filter(({ id }) => preempt.includes(id)), running.filter(({ id }) => !preempt.includes(id))];
  return {
    admitted: new Set(waiting.filter(({ id }) => admit.includes(id))), running: kept,
    queue: inTurn([...waiting, ...victims], now),
  };
}

/** Positions of prefill in one step beside running images, so that these never wait long. */
export const PREFILL_BUDGET = 64;

/** Positions of one prefill pass; a prompt is always cut at its multiples, so that it is computed the same whatever runs. */
export const PREFILL_CHUNK = 32;

/** A prompt on its way through prefill. */
export interface PromptProgress {
  readonly done: number;
  readonly total: number;
}

/** How many positions of each prompt to run in one step: in order, chunk by chunk, as far as the budget goes. */
export function planPrefill(prompts: readonly PromptProgress[]): readonly (readonly number[])[] {
  let budget = PREFILL_BUDGET;
  return prompts.map(({ done, total }) => {
    const chunks: number[] = [];
    for (let at = done; at < total && budget > 0; at += chunks.at(-1)!) {
      chunks.push(Math.min(PREFILL_CHUNK, total - at));
      budget -= chunks.at(-1)!;
    }
    return chunks;
  });
}
