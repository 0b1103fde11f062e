import { KvCache } from "./kv-cache.js";
import type { Model } from "./model.js";

/** Positions that lie behind those of a pass when its cost is measured. */
const PAST_POSITIONS = 32;

/** The most positions in a pass whose cost is measured beforehand. */
const MAX_POSITIONS = 128;

/** How often a size is measured beforehand. */
const ROUNDS = 3;

/** How much the latest pass counts: for the machine's speed, and for what sets its size apart from others. */
const SPEED_WEIGHT = 0.1;
const SIZE_WEIGHT = 0.02;

/** One pass counts as so many times slower or faster than expected at most: something else was at work. */
const MAX_SURPRISE = 2;

/**
 * What a pass takes, in milliseconds, by the number of positions in it (rows times positions a row), learned from the
 * passes themselves. Sizes are kept by powers of two; between them the cost is a straight line, and beyond the largest
 * it grows in proportion. Whatever slows passes of one size down, neighbours or a long past, is taken to slow all: so
 * that a size that was slow once is not avoided for good.
 */
export class PassCost {
  readonly #milliseconds = new Map<number, number>();
  #slowness = 1;

  /** A pass has been measured. */
  observe(positions: number, milliseconds: number): void {
    const power = Math.round(Math.log2(positions));
    const known = this.#milliseconds.get(power);
    if (known === undefined) {
      const size = this.#milliseconds.size < 2 ? 1 : this.estimate(2 ** power) / this.estimate(positions);
      this.#milliseconds.set(power, (milliseconds * size) / this.#slowness);
      return;
    }
    const ratio = milliseconds / this.estimate(positions);
    const surprise = Math.min(MAX_SURPRISE, Math.max(1 / MAX_SURPRISE, ratio)) - 1;
    this.#slowness *= 1 + SPEED_WEIGHT * surprise;
    this.#milliseconds.set(power, known * (1 + SIZE_WEIGHT * surprise));
  }

  /** Measure passes of every size, one after the other and again, as far as the time goes; the best counts: others may be at work. */
  async calibrate(model: Model, maxMs: number): Promise<void> {
    const { tokenOffset, maxPositions } = model.layout;
    const startedAt = performance.now();
    const past = Math.min(PAST_POSITIONS, maxPositions);
    const cache = new KvCache(model.layout, 1, past);
    cache.reserve(past);
    const run = async (count: number): Promise<number> => {
      const ids = new BigInt64Array(count).fill(BigInt(tokenOffset));
      const passAt = performance.now();
      const pass = await model.forward({ cache, firstRow: 0, rows: 1, ids, logitsFrom: 0 });
      const ms = performance.now() - passAt;
      if (cache.lengths[0] < past) cache.append(0, { ...pass, rows: 1, count }, 0, count);
      return ms;
    };
    await run(past);
    const best = new Map<number, number>();
    for (let round = 0; round < ROUNDS; round++) {
      for (let count = 1; count <= MAX_POSITIONS; count *= 2) {
        // Those of one image at least, with and without guidance: what is slow must be known most of all.
        if (best.size > 1 && performance.now() - startedAt >= maxMs) break;
        best.set(count, Math.min(best.get(count) ?? Infinity, await run(count)));
      }
    }
    for (const [count, ms] of best) this.observe(count, ms);
  }

  /** The likely cost of a pass; 1 before anything has been measured. */
  estimate(positions: number): number {
    const powers = [...this.#milliseconds.keys()].sort((a, b) => a - b);
    if (powers.length === 0) return 1;
    const at = Math.log2(positions);
    const above = powers.find((power) => power >= at);
    const below = powers.findLast((power) => power <= at);
    const cost = (power: number): number => this.#slowness * this.#milliseconds.get(power)!;
    if (above === undefined) return (cost(below!) * positions) / 2 ** below!;
    if (below === undefined || above === below) return cost(above);
    return cost(below) + ((cost(above) - cost(below)) * (positions - 2 ** below)) / (2 ** above - 2 ** below);
  }
}
