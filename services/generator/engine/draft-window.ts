import { MAX_DRAFT_WINDOW } from "./speculative.js";

/** Windows to choose from: wider ones differ too little to tell them apart. */
const WINDOWS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, MAX_DRAFT_WINDOW];

/**
 * A wider window must promise this much more than none for every sequence in the batch, so that an error of the estimate
 * does not cost speed: in a full batch there is little to gain and drafts take positions from others.
 */
const MARGIN = 0.05;

/** The window that acceptance is stated for: its only draft is judged as it was first drawn. */
const FRESH_WINDOW = 2;

/**
 * Drafts of a wide window have been drawn anew several times when their turn comes, each time knowing more: with each doubling
 * the logarithm of their acceptance falls to this share. Measured on the embedded model: 0.70 at guidance 1.5, 0.82 at 3, 0.76 at 6.
 */
const RIPENING = 0.8;

/** What the choice of a window depends on. */
export interface WindowChoice {
  /** Probability that a fresh draft is right if those before it are, for each sequence of the pass. */
  readonly acceptance: readonly number[];
  /** Rows of the pass. */
  readonly rows: number;
  /** Milliseconds of a pass over so many positions. */
  readonly passMs: (positions: number) => number;
  /** Milliseconds to process and draw from one position's law. */
  readonly lawMs: number;
}

/** How likely a draft of a window of W is right, by how likely a fresh one is. */
export function acceptanceIn(window: number, fresh: number): number {
  return fresh ** ripeness(window);
}

/** The same backwards. */
export function freshAcceptance(window: number, acceptance: number): number {
  return acceptance ** (1 / ripeness(window));
}

function ripeness(window: number): number {
  return RIPENING ** Math.max(0, Math.log2(window / FRESH_WINDOW));
}

/** Tokens that a window of W yields on average: 1 + a + a^2 + ... + a^(W-1). */
export function expectedTokens(acceptance: number, window: number): number {
  return acceptance >= 1 ? window : (1 - acceptance ** window) / (1 - acceptance);
}

/**
 * The draft window that yields most tokens a millisecond: 1 when the rows of other sequences fill the machine already,
 * wide when drafts are good and a wider pass costs little more.
 */
export function chooseDraftWindow({ acceptance, rows, passMs, lawMs }: WindowChoice): number {
  const rate = (window: number) => {
    const tokens = acceptance.reduce((sum, fresh) => sum + expectedTokens(acceptanceIn(window, fresh), window), 0);
    return tokens / (passMs(rows * window) + lawMs * acceptance.length * window);
  };
  const plain = rate(1);
  let best = { window: 1, rate: plain * (1 + MARGIN * acceptance.length) };
  for (const window of WINDOWS) {
    const candidate = rate(window);
    if (window > 1 && candidate > best.rate) best = { window, rate: candidate };
  }
  return best.window;
}
