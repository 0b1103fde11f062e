import { invariant } from "#libs/errors/errors.js";

/** A row whose keys and values must be copied, so that the rows in use stay side by side. */
export interface RowMove {
  readonly from: number;
  readonly to: number;
}

/** How the rows of a cache stand. */
export interface SlotsSnapshot {
  readonly total: number;
  /** Rows promised to someone. */
  readonly reserved: number;
  /** Rows that hold keys and values: 0 .. placed - 1. */
  readonly placed: number;
}

/**
 * Who owns which rows of the cache; holds no tensors. An owner reserves all rows it needs at once, places them when it
 * has something to put there, and releases them together: a guided pair never loses one branch.
 */
export class KvSlots {
  readonly #total: number;
  readonly #reserved = new Map<number, number>();
  readonly #rows = new Map<number, number[]>();
  readonly #owners: number[] = [];

  /** @param total rows of the cache. */
  constructor(total: number) {
    this.#total = total;
  }

  get snapshot(): SlotsSnapshot {
    let reserved = 0;
    for (const rows of this.#reserved.values()) reserved += rows;
    return { total: this.#total, reserved, placed: this.#owners.length };
  }

  /** Rows not promised to anyone. */
  get free(): number {
    const { total, reserved } = this.snapshot;
    return total - reserved;
  }

  /** Promise rows to an owner that has none. */
  reserve(owner: number, rows: number): void {
    if (this.#reserved.has(owner)) throw invariant(`sequence ${owner} has reserved its rows already`);
    if (rows > this.free) throw invariant(`sequence ${owner} wants ${rows} rows, ${this.free} are free`);
    this.#reserved.set(owner, rows);
  }

  /** Give an owner the rows it has reserved, behind all others. */
  place(owner: number): readonly number[] {
    const count = this.#reserved.get(owner);
    if (count === undefined || this.#rows.has(owner)) throw invariant(`sequence ${owner} has no rows to place`);
    const rows = Array.from({ length: count }, () => this.#owners.push(owner) - 1);
    this.#rows.set(owner, rows);
    return rows;
  }

  /** The rows of an owner that has placed them, conditional before unconditional. They move when others leave. */
  rowsOf(owner: number): readonly number[] {
    const rows = this.#rows.get(owner);
    if (rows === undefined) throw invariant(`sequence ${owner} has no rows`);
    return rows;
  }

  /** Take everything back from an owner. @returns what to copy, in this order, to close the gaps. */
  release(owner: number): readonly RowMove[] {
    if (!this.#reserved.delete(owner)) throw invariant(`sequence ${owner} has no rows to release`);
    const gaps = [...(this.#rows.get(owner) ?? [])].sort((a, b) => b - a);
    this.#rows.delete(owner);
    const moves: RowMove[] = [];
    for (const gap of gaps) {
      const last = this.#owners.length - 1;
      const mover = this.#owners.pop()!;
      if (gap === last) continue;
      const rows = this.#rows.get(mover)!;
      rows[rows.indexOf(last)] = gap;
      this.#owners[gap] = mover;
      moves.push({ from: last, to: gap });
    }
    return moves;
  }

  /** What is wrong with the books, in words; empty if nothing is. */
  checkInvariants(): readonly string[] {
    const problems: string[] = [];
    const { total, reserved, placed } = this.snapshot;
    if (reserved > total) problems.push(`${reserved} rows are reserved, ${total} exist`);
    if (placed > reserved) problems.push(`${placed} rows are placed, ${reserved} are reserved`);
    for (const [owner, rows] of this.#rows) {
      if (rows.length !== this.#reserved.get(owner)) problems.push(`sequence ${owner} placed ${rows.length} rows`);
      for (const row of rows) if (this.#owners[row] !== owner) problems.push(`row ${row} is not of sequence ${owner}`);
    }
    return problems;
  }
}
