import { draftsFor } from "./decoding.js";
import { chooseDraftWindow } from "./draft-window.js";
import { PassCost } from "./pass-cost.js";
import type { Sequence } from "./sequence.js";
import type { Draft, Verified } from "./speculative.js";

/** How much the latest step or sequence counts. */
const WEIGHT = 0.1;

/** How good drafts are taken to be before there are any. */
const FIRST_ACCEPTANCE = 0.6;

/**
 * Positions of a pass that several sequences share, as far as they want drafts: a row is as long as the widest window, so
 * that one wide window is paid for by all.
 */
const MAX_SHARED_POSITIONS = 64;

/** Without speculation, the share of the time that goes into looks at how good drafts would have been. */
const LOOK_SHARE = 0.005;

/** What an engine has learned about drafts and passes, and how far it looks ahead by it. */
export class Speculation {
  /** What passes cost. */
  readonly passCost = new PassCost();
  #lawMs = 0;
  #acceptance = FIRST_ACCEPTANCE;
  #sinceLook = 0;

  /** How good drafts have been lately: what a new sequence starts from. */
  get acceptance(): number {
    return this.#acceptance;
  }

  /**
   * The drafts of each sequence for the next pass: as many as its request says, or fewer in company, or as promise most
   * tokens a millisecond; never beyond the image.
   * @param rows of the pass. @param imageTokenCount tokens of a whole image.
   */
  plan(sequences: readonly Sequence[], rows: number, imageTokenCount: number): ReadonlyMap<Sequence, readonly Draft[]> {
    const automatic = sequences.filter(({ request }) => request.speculation.draftWindow === "auto");
    const chosen = automatic.length === 0 ? 1 : chooseDraftWindow({
      acceptance: automatic.map(({ acceptance }) => acceptance), rows, lawMs: this.#lawMs,
      passMs: (positions) => this.passCost.estimate(positions),
    });
    const isLook = chosen === 1 && this.#isTimeToLook(automatic.length, rows);
    const widest = sequences.length === 1 ? Infinity : Math.max(1, Math.floor(MAX_SHARED_POSITIONS / rows));
    return new Map(sequences.map((sequence) => {
      const { draftWindow } = sequence.request.speculation;
      const wanted = draftWindow === "auto" ? chosen : Math.min(draftWindow, widest);
      const window = Math.min(wanted, imageTokenCount - sequence.tokens.length);
      // A look costs one draw and no position: the draft is judged by the token that plain decoding draws anyway.
      if (isLook && draftWindow === "auto") sequence.looks = draftsFor(sequence, 1);
      return [sequence, draftsFor(sequence, window - 1)];
    }));
  }

  /** A look costs each sequence a draw. */
  #isTimeToLook(sequences: number, rows: number): boolean {
    this.#sinceLook++;
    if (this.#sinceLook * LOOK_SHARE * this.passCost.estimate(rows) < this.#lawMs * sequences) return false;
    this.#sinceLook = 0;
    return true;
  }

  /** Note how a sequence's drafts fared. @param window positions of its pass. */
  judged(sequence: Sequence, { tokens, evaluated }: Verified, window: number): void {
    sequence.observe(window, evaluated, tokens.length - 1);
    const [look] = sequence.looks;
    if (look !== undefined && evaluated === 0) sequence.lookedAt(look.token === tokens[0]);
    sequence.looks = [];
    this.#acceptance += (WEIGHT / 10) * (sequence.acceptance - this.#acceptance);
  }

  /** Note what it took to judge so many positions' laws. */
  took(laws: number, milliseconds: number): void {
    this.#lawMs += WEIGHT * (milliseconds / laws - this.#lawMs);
  }
}
