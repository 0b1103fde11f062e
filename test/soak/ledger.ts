import { BEHAVIOURS, DEFINITE, type Behaviour, type Outcome, type Seen } from "./client.js";
import type { Reference } from "./recipe.js";

/** One call, over. */
export interface Entry extends Seen {
  readonly behaviour: Behaviour;
  /** What its images must be. */
  readonly reference: Reference;
  /** As in `performance.now()`. */
  readonly begunAt: number;
}

/** What all calls came to. */
export interface Tally {
  /** How often each behaviour ended in which way. */
  readonly outcomes: Readonly<Record<Behaviour, Readonly<Partial<Record<Outcome, number>>>>>;
  /** Images that were complete. */
  readonly images: number;
  /** Of these: those whose tokens are not the reference's. */
  readonly wrongImages: number;
  /** Calls without an answer. */
  readonly unanswered: number;
  /** Calls that ended in a way in which such a call must not end. */
  readonly wrongAnswers: number;
  /** The first of these. */
  readonly firstWrong: readonly string[];
}

const MAX_SHOWN = 5;

/** A time in which a service was down. */
interface Outage {
  readonly from: number;
  to: number;
}

/** Enters calls as they end, and judges them. */
export class Ledger {
  readonly #outages: Outage[] = [];
  readonly #outcomes = Object.fromEntries(BEHAVIOURS.map((behaviour) => [behaviour, {}])) as Record<Behaviour, Partial<Record<Outcome, number>>>;
  readonly #wrong: string[] = [];
  #images = 0;
  #wrongImages = 0;
  #unanswered = 0;
  #wrongAnswers = 0;

  /** From now on a service is down. @returns to be called when its peers reach it again. */
  beginOutage(): () => void {
    const outage = { from: performance.now(), to: Infinity };
    this.#outages.push(outage);
    return () => void (outage.to = performance.now());
  }

  enter({ behaviour, outcome, finished, reference, begunAt }: Entry): void {
    const outcomes = this.#outcomes[behaviour];
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    this.#images += finished.length;
    for (const { imageIndex, tokenDigest } of finished) {
      if (tokenDigest !== reference.digests[imageIndex]) this.#note("wrongImage", `image ${imageIndex} of a ${behaviour} call`);
    }
    const isComplete = outcome !== "complete" || finished.length === reference.imageCount;
    const isDefinite = DEFINITE[behaviour].includes(outcome) || (outcome === "not-ready" && this.#isOutageSince(begunAt));
    if (outcome === "nothing") this.#note("unanswered", `a ${behaviour} call`);
    else if (!isDefinite || !isComplete) this.#note("wrongAnswer", `a ${behaviour} call ended with ${outcome}, ${finished.length} images`);
  }

  get tally(): Tally {
    return {
      outcomes: this.#outcomes, images: this.#images, wrongImages: this.#wrongImages, unanswered: this.#unanswered,
      wrongAnswers: this.#wrongAnswers, firstWrong: this.#wrong,
    };
  }

  #note(what: "wrongImage" | "unanswered" | "wrongAnswer", which: string): void {
    if (what === "wrongImage") this.#wrongImages++;
    if (what === "unanswered") this.#unanswered++;
    if (what === "wrongAnswer") this.#wrongAnswers++;
    if (this.#wrong.length < MAX_SHOWN) this.#wrong.push(`${what}: ${which}`);
  }

  #isOutageSince(begunAt: number): boolean {
    return this.#outages.some(({ to }) => to >= begunAt);
  }
}
