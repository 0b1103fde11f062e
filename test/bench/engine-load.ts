import { readFile } from "node:fs/promises";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { engineLimits } from "#services/generator/engine-limits.js";
import type { GenerationTimings, SpeculationSettings } from "#services/generator/engine/generation.js";
import type { EngineSnapshot } from "#services/generator/engine/snapshot.js";
import { ThreadEngine } from "#services/generator/engine/thread-engine.js";
import { TextTokenizer, type TokenizerFile } from "#services/tokenizer/text-tokenizer.js";

const PROMPTS = [
  "three red apples on a blue background", "a cat", "a dog left of a car", "two green frogs", "a yellow star",
  "a pizza above a drum", "a blue fish", "four balloons",
];

/** One image of a load. */
export interface LoadImage {
  /** Order number: picks prompt and seed. */
  readonly number: number;
  readonly draftWindow: SpeculationSettings["draftWindow"];
  /** Undefined: the bundle's own. */
  readonly guidanceScale?: number;
}

/** How one image went, in milliseconds. */
export interface ImageRun {
  readonly tokens: readonly number[];
  readonly timings: GenerationTimings;
  readonly firstTokenMs: number;
  /** Time from one chunk of tokens to the next, by token. */
  readonly interTokenMs: readonly number[];
}

/** An engine on a bundle, without services around it, and requests to keep it busy. */
export class EngineLoad {
  readonly bundle: TokenBundle;
  readonly #engine: ThreadEngine;
  readonly #tokenizer: TextTokenizer;

  /** Load a bundle as the generator does. The caller closes it. */
  static async open(bundleFolder: string, options: { readonly threads: number; readonly maxRunning: number }): Promise<EngineLoad> {
    const bundle = await openTokenBundle(bundleFolder);
    const { manifest } = bundle;
    const engine = await ThreadEngine.open({
      graphFile: bundle.path(manifest.transformer.file), manifest,
      session: { threads: options.threads, provider: "cpu" },
      limits: engineLimits(manifest, { maxRunning: options.maxRunning, kvCacheMib: 8192, maxQueueLength: 1000 }),
    });
    const file = JSON.parse(await readFile(bundle.path("tokenizer.json"), "utf8")) as TokenizerFile;
    return new EngineLoad(bundle, engine, new TextTokenizer(file, manifest.text));
  }

  private constructor(bundle: TokenBundle, engine: ThreadEngine, tokenizer: TextTokenizer) {
    this.bundle = bundle;
    this.#engine = engine;
    this.#tokenizer = tokenizer;
  }

  get snapshot(): EngineSnapshot {
    return this.#engine.snapshot;
  }

  /** Make one image's tokens. */
  async run({ number, draftWindow, guidanceScale }: LoadImage): Promise<ImageRun> {
    const { defaults } = this.bundle.manifest;
    const startedAt = performance.now();
    const tokens: number[] = [];
    const interTokenMs: number[] = [];
    let timings: GenerationTimings | undefined;
    let firstTokenMs = 0;
    let heardAt = 0;
    const request = {
      ...defaults, repetitionPenalty: 1, ...(guidanceScale && { guidanceScale }), seed: BigInt(number), priority: "normal" as const, deadline: Infinity,
      promptTokens: this.#tokenizer.encodePrompt(PROMPTS[number % PROMPTS.length]),
      negativePromptTokens: this.#tokenizer.encodeNegativePrompt(undefined),
      images: [{ imageIndex: 0, prefix: [] }], speculation: { draftWindow, verification: "coupled" as const },
    };
    for await (const event of this.#engine.generate(request, { signal: new AbortController().signal })) {
      if (event.type === "finished") timings = event.timings;
      if (event.type !== "tokens") continue;
      const now = performance.now();
      if (tokens.length === 0) firstTokenMs = now - startedAt;
      else interTokenMs.push(...event.tokens.map(() => (now - heardAt) / event.tokens.length));
      heardAt = now;
      tokens.push(...event.tokens);
    }
    return { tokens, timings: timings!, firstTokenMs, interTokenMs };
  }

  close(): Promise<void> {
    return this.#engine.close();
  }
}
