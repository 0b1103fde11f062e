import { AppError } from "#libs/errors/errors.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { quantile } from "#test/bench/table.js";

/** How a load fared while something happened; times in milliseconds. */
export interface LoadReport {
  readonly images: number;
  /** Calls that ended with an error: nobody made them again. */
  readonly lost: number;
  /** Images whose tokens are not those of a calm run. */
  readonly wrong: number;
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
}

/** Seeds in use: images of which the tokens are known. */
const SEEDS = [1n, 2n, 3n, 4n] as const;

/** Clients that ask for images whose tokens they know, each for its next as soon as it has the last one. */
export class ImageLoad {
  readonly #client: ServiceClient<typeof DecoderService>;
  readonly #digests = new Map<bigint, string>();

  /** Learn the tokens while nothing disturbs. */
  static async calm(client: ServiceClient<typeof DecoderService>): Promise<ImageLoad> {
    const load = new ImageLoad(client);
    for (const seed of SEEDS) load.#digests.set(seed, await load.#digestOf(seed));
    return load;
  }

  private constructor(client: ServiceClient<typeof DecoderService>) {
    this.#client = client;
  }

  /** Keep so many clients busy from before something happens until it is over and each has begun and ended one image more. */
  async during(clients: number, happening: () => Promise<void>): Promise<LoadReport> {
    const times: number[] = [];
    let isOver = false;
    let lost = 0;
    let wrong = 0;
    let next = 0;
    const image = async () => {
      const seed = SEEDS[next++ % SEEDS.length];
      const startedAt = performance.now();
      try {
        if (await this.#digestOf(seed) !== this.#digests.get(seed)) wrong++;
      } catch (error) {
        lost++;
        process.stderr.write(`lost: ${AppError.from(error).message}\n`);
      }
      times.push(performance.now() - startedAt);
    };
    const busy = Array.from({ length: clients }, async () => {
      while (!isOver) await image();
      await image();
    });
    try {
      await happening();
    } finally {
      isOver = true;
    }
    await Promise.all(busy);
    return { images: times.length, lost, wrong, p50: quantile(times, 0.5), p95: quantile(times, 0.95), max: Math.max(...times) };
  }

  async #digestOf(seed: bigint): Promise<string> {
    let digest = "";
    for await (const { event } of this.#client.generateImage({ generation: { prompt: "a dog on a hill", seed } })) {
      if (event.case === "imageFinished") digest = event.value.tokenDigest;
    }
    return digest;
  }
}
