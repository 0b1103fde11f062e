import { setTimeout as sleep } from "node:timers/promises";
import { AppError } from "#libs/errors/errors.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { Definition } from "#libs/rpc/definition.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { Priority } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { Dice } from "#test/doubles/fuzz.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";
import { makeImages, startTestStack, type TestStack } from "#test/doubles/start-stack.js";
import { median } from "#test/bench/table.js";
import { makeCall, randomCall } from "./client.js";
import { Ledger, type Tally } from "./ledger.js";
import { openFiles, residentBytes } from "./process-memory.js";
import { randomRecipe, variedGeneration, type Recipe, type Reference } from "./recipe.js";

/** How much is asked for. */
export interface SoakOptions {
  readonly requests: number;
  /** Requests under way at once. */
  readonly clients: number;
  /** Different images that the requests ask for. */
  readonly recipes: number;
  /** Fixes what is asked for, though not what happens. */
  readonly seed: number;
  /** Times that the decoder or the tokenizer is killed, in turn. */
  readonly kills: number;
  /** Told how many requests are over. */
  onProgress?(done: number): void;
}

/** What came of it. */
export interface SoakReport extends Tally {
  readonly requests: number;
  readonly seconds: number;
  readonly kills: number;
  /** Images that the generator still counts when all clients are gone, and share of its cache still filled. */
  readonly leakedImages: number;
  readonly leakedCacheShare: number;
  /** Whether the generator lived to the end: it ends by itself when its books are wrong while it is idle. */
  readonly isGeneratorAlive: boolean;
  /** Memory of the generator in bytes, over each tenth of the requests. */
  readonly residentBytes: readonly number[];
  /** Files and sockets that the generator has open, idle, before and after. */
  readonly filesBefore: number;
  readonly filesAfter: number;
  /** Images that differ when all is asked for once more in peace. */
  readonly wrongAfterwards: number;
}

/** Rows and columns of image tokens: long enough to be disturbed, short enough for thousands. */
const GRID_SIZE = 8;

/** Less than what the clients ask for at once, so that the queue fills and images wait and give way. */
const ENV = { TESSERA_MAX_RUNNING: "12", TESSERA_MAX_QUEUE: "16" };

/** Makes seeds of neighbouring numbers independent. */
const SPREAD = 0x9e3779b1;

/** How long an engine may take to let go of what its last client has left. */
const SETTLE_MS = 10_000;

/** How long a client that was refused waits at most. */
const MAX_PAUSE_MS = 250;

type Generator = Connection<Definition<(typeof GeneratorService)["method"]>>;

/** Ask for many images in many ways, break things meanwhile, and compare all that comes with what came in peace. */
export async function runSoak(options: SoakOptions): Promise<SoakReport> {
  const stack = await startTestStack({ bundle: await slowBundle(GRID_SIZE), env: ENV });
  const generator = connect(GeneratorService, stack.stack.generator.address);
  try {
    return await new Soak(stack, generator, options).run();
  } finally {
    generator.close();
    await stack.stop();
  }
}

class Soak {
  readonly #stack: TestStack;
  readonly #generator: Generator;
  readonly #options: SoakOptions;
  readonly #ledger = new Ledger();
  readonly #memory: number[] = [];
  #references: readonly Reference[] = [];
  /** Settles when no service is down. */
  #outage: Promise<void> = Promise.resolve();
  #begun = 0;
  #done = 0;

  constructor(stack: TestStack, generator: Generator, options: SoakOptions) {
    this.#stack = stack;
    this.#generator = generator;
    this.#options = options;
  }

  async run(): Promise<SoakReport> {
    const { requests, clients, recipes, kills, seed } = this.#options;
    const dice = new Dice(seed);
    const wanted = Array.from({ length: recipes }, () => randomRecipe(dice));
    this.#references = await inPeace(this.#stack, wanted);
    const { pid } = this.#stack.stack.generator;
    const filesBefore = openFiles(pid);
    const startedAt = performance.now();
    await Promise.all([...Array.from({ length: clients }, () => this.#client()), this.#chaos()]);
    const seconds = Math.round(performance.now() - startedAt) / 1000;
    const leaked = await this.#settled();
    const again = await inPeace(this.#stack, wanted);
    return {
      requests, seconds, kills, ...this.#ledger.tally, ...leaked,
      isGeneratorAlive: this.#stack.stack.generator.pid === pid && await this.#isServing(),
      residentBytes: tenths(this.#memory),
      filesBefore, filesAfter: openFiles(pid),
      wrongAfterwards: again.filter(({ digests }, index) => digests.join() !== this.#references[index].digests.join()).length,
    };
  }

  /** One client after the other, as long as there are requests left. */
  async #client(): Promise<void> {
    while (this.#begun < this.#options.requests) {
      const dice = new Dice(this.#options.seed + SPREAD * ++this.#begun);
      const reference = dice.pick(this.#references);
      const call = randomCall(variedGeneration(reference, dice), dice);
      const begunAt = performance.now();
      const seen = await makeCall(call, this.#stack.client, this.#stack.stack.decoder.address);
      this.#ledger.enter({ ...seen, behaviour: call.behaviour, reference, begunAt });
      this.#memory.push(residentBytes(this.#stack.stack.generator.pid));
      this.#done++;
      this.#options.onProgress?.(this.#done);
      // Otherwise an outage, or a full queue, would use up all requests.
      if (seen.outcome === "not-ready") await this.#outage;
      if (seen.outcome === "overloaded") await sleep(Math.min(MAX_PAUSE_MS, seen.retryDelayMs ?? 0));
    }
  }

  /** Kill the decoder and the tokenizer in turn, evenly over the requests, and start them again. */
  async #chaos(): Promise<void> {
    const { requests, kills } = this.#options;
    for (let kill = 1; kill <= kills; kill++) {
      while (this.#done < (requests * kill) / (kills + 1)) await sleep(10);
      const name = kill % 2 === 1 ? "decoder" : "tokenizer";
      const end = this.#ledger.beginOutage();
      this.#outage = this.#killAndRestart(name);
      await this.#outage;
      end();
    }
  }

  async #killAndRestart(name: "decoder" | "tokenizer"): Promise<void> {
    const victim = this.#stack.stack[name];
    victim.kill("SIGKILL");
    await victim.ended;
    await this.#stack.restart(name);
    await this.#untilReached();
  }

  /** The peers of a service wait up to two seconds from one attempt to connect to the next. */
  async #untilReached(): Promise<void> {
    const [{ generation }] = this.#references;
    const isOutage = ({ kind }: AppError) => kind === "not-ready";
    for (;;) {
      const error = await makeImages(this.#stack, { ...generation, priority: Priority.HIGH }).then(() => undefined, AppError.from);
      if (error === undefined || !isOutage(error)) return;
    }
  }

  /** What the generator still holds once it had time to let go. */
  async #settled(): Promise<Pick<SoakReport, "leakedImages" | "leakedCacheShare">> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const { running, queueLength, kvCacheUsage } = await this.#generator.client.getGeneratorInfo({});
      const leaked = { leakedImages: running + queueLength, leakedCacheShare: kvCacheUsage };
      if (leaked.leakedImages + leaked.leakedCacheShare === 0 || performance.now() > deadline) return leaked;
    }
  }

  #isServing(): Promise<boolean> {
    return this.#generator.client.getGeneratorInfo({}).then(() => true, () => false);
  }
}

/** Make the images of recipes one request after the other, without speculation. */
async function inPeace(stack: TestStack, recipes: readonly Recipe[]): Promise<readonly Reference[]> {
  const references: Reference[] = [];
  for (const recipe of recipes) {
    const generation = { ...recipe.generation, speculation: { draftWindow: 1 } };
    const { finished } = await makeImages(stack, generation, { includeTokens: true });
    references.push({
      ...recipe, digests: finished.map(({ tokenDigest }) => tokenDigest), tokens: finished.map(({ tokens }) => tokens),
    });
  }
  return references;
}

/** The middle of each tenth of some values. */
function tenths(values: readonly number[]): readonly number[] {
  const size = values.length / 10;
  return Array.from({ length: 10 }, (_, tenth) => Math.round(median(values.slice(tenth * size, (tenth + 1) * size))));
}
