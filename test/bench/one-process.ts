import { readFile } from "node:fs/promises";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { Detokenizer } from "#services/decoder/detokenizer.js";
import { encodeImage } from "#services/decoder/encode.js";
import { engineLimits } from "#services/generator/engine-limits.js";
import { ThreadEngine } from "#services/generator/engine/thread-engine.js";
import { TextTokenizer, type TokenizerFile } from "#services/tokenizer/text-tokenizer.js";

/** Where the time of one image went, in milliseconds. */
export interface Phases {
  readonly tokenizeMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  readonly detokenizeMs: number;
  readonly encodeMs: number;
  /** From the prompt to the file's bytes. */
  readonly wallMs: number;
}

/** One image that was made in this process. */
export interface LocalImage {
  readonly tokens: Uint32Array;
  readonly bytes: Uint8Array;
  readonly phases: Phases;
}

/** The very parts of the three services in one process, called one after the other: no gRPC, no messages, no queue. */
export class OneProcess {
  readonly bundle: TokenBundle;
  readonly detokenizer: Detokenizer;
  readonly #tokenizer: TextTokenizer;
  readonly #engine: ThreadEngine;

  /** Load and warm a bundle as the services do. The caller closes it. @param options.maxRunning images at one time. */
  static async open(bundleFolder: string, { maxRunning = 1 }: { readonly maxRunning?: number } = {}): Promise<OneProcess> {
    const bundle = await openTokenBundle(bundleFolder);
    const { manifest } = bundle;
    const file = JSON.parse(await readFile(bundle.path("tokenizer.json"), "utf8")) as TokenizerFile;
    const session = { threads: 1, provider: "cpu" } as const;
    const limits = engineLimits(manifest, { maxRunning, kvCacheMib: 1024, maxQueueLength: 0 });
    const engine = await ThreadEngine.open({ graphFile: bundle.path(manifest.transformer.file), manifest, session, limits });
    const detokenizer = await Detokenizer.open({
      graphFile: bundle.path(manifest.decoder.file), image: manifest.image, ...session,
    });
    return new OneProcess({ bundle, detokenizer, engine, tokenizer: new TextTokenizer(file, manifest.text) });
  }

  private constructor(parts: {
    readonly bundle: TokenBundle; readonly detokenizer: Detokenizer; readonly engine: ThreadEngine; readonly tokenizer: TextTokenizer;
  }) {
    this.bundle = parts.bundle;
    this.detokenizer = parts.detokenizer;
    this.#engine = parts.engine;
    this.#tokenizer = parts.tokenizer;
  }

  /** Make image 0 of a request with the bundle's own settings, as PNG. */
  async image(prompt: string, seed: bigint): Promise<LocalImage> {
    const startedAt = performance.now();
    const promptTokens = this.#tokenizer.encodePrompt(prompt);
    const negativePromptTokens = this.#tokenizer.encodeNegativePrompt(undefined);
    const tokenizedAt = performance.now();
    const { tokens, ...generated } = await this.#generate({ promptTokens, negativePromptTokens, seed });
    const generatedAt = performance.now();
    const pixels = await this.detokenizer.detokenize(tokens);
    const detokenizedAt = performance.now();
    const bytes = await encodeImage(pixels, { format: ImageFormat.PNG, quality: 0, includePrompt: false });
    const endedAt = performance.now();
    const phases = {
      tokenizeMs: tokenizedAt - startedAt, ...generated, detokenizeMs: detokenizedAt - generatedAt,
      encodeMs: endedAt - detokenizedAt, wallMs: endedAt - startedAt,
    };
    return { tokens, bytes, phases };
  }

  /** Only the tokens of `image`. */
  async tokens(prompt: string, seed: bigint): Promise<Uint32Array> {
    const promptTokens = this.#tokenizer.encodePrompt(prompt);
    const negativePromptTokens = this.#tokenizer.encodeNegativePrompt(undefined);
    return (await this.#generate({ promptTokens, negativePromptTokens, seed })).tokens;
  }

  /** End both threads. */
  async close(): Promise<void> {
    await this.#engine.close();
    await this.detokenizer.close();
  }

  async #generate(request: {
    readonly promptTokens: readonly number[]; readonly negativePromptTokens: readonly number[]; readonly seed: bigint;
  }): Promise<{ readonly tokens: Uint32Array; readonly prefillMs: number; readonly decodeMs: number }> {
    const { defaults } = this.bundle.manifest;
    const tokens = new Uint32Array(this.#engine.layout.imageTokenCount);
    const timings = { prefillMs: 0, decodeMs: 0 };
    const { signal } = new AbortController();
    const images = [{ imageIndex: 0, prefix: [] }];
    const speculation = { draftWindow: "auto", verification: "coupled" } as const;
    const asked = { ...defaults, repetitionPenalty: 1, ...request, images, speculation, priority: "normal", deadline: Infinity } as const;
    for await (const event of this.#engine.generate(asked, { signal })) {
      if (event.type === "tokens") tokens.set(event.tokens, event.offset);
      if (event.type === "finished") ({ prefillMs: timings.prefillMs, decodeMs: timings.decodeMs } = event.timings);
    }
    return { tokens, ...timings };
  }
}
