import { readFile } from "node:fs/promises";
import { openBundle } from "#libs/bundle/bundle.js";
import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { unsupported } from "#libs/errors/errors.js";
import type { Latent } from "#libs/flow/latent.js";
import { FlowHead } from "#services/decoder/flow-head.js";
import { LatentDetokenizer } from "#services/decoder/latent-detokenizer.js";
import { sampleStage, stageStart } from "#services/decoder/stage-sampler.js";
import { OnnxStageModel } from "#services/generator/stages/onnx-stage-model.js";
import type { StageMemory, StageOutput, StageRow } from "#services/generator/stages/stage-model.js";
import { TextTokenizer, type TokenizerFile } from "#services/tokenizer/text-tokenizer.js";

/** Text places are given out in blocks, as the generator does. */
const TEXT_BLOCK = 16;

/** One image to make. */
export interface Wish {
  readonly prompt: string;
  readonly seed: bigint;
}

/** The very parts of the services for a stage-wise bundle in one process: no gRPC, no messages, no queue. */
export class EcarModel {
  readonly manifest: StageManifest;
  readonly detokenizer: LatentDetokenizer;
  readonly tokenizer: TextTokenizer;
  readonly #path: (file: string) => string;
  readonly #transformer: OnnxStageModel;
  readonly #head: FlowHead;

  /** Load a bundle. The caller closes it. @throws unsupported for a bundle of another family. */
  static async open(bundleFolder: string, options: { readonly threads: number }): Promise<EcarModel> {
    const { manifest, path } = await openBundle(bundleFolder);
    if (manifest.family !== "ecar") throw unsupported(`${manifest.name} has no stages: give a bundle of continuous tokens`);
    const file = JSON.parse(await readFile(path("tokenizer.json"), "utf8")) as TokenizerFile;
    return new EcarModel(manifest, path, {
      tokenizer: new TextTokenizer(file, manifest.text),
      transformer: await OnnxStageModel.open(path(manifest.transformer.file), manifest, options),
      head: await FlowHead.open(path(manifest.flowHead.file), manifest, options),
      detokenizer: await LatentDetokenizer.open(path(manifest.decoder.file), manifest, options),
    });
  }

  private constructor(manifest: StageManifest, path: (file: string) => string, parts: {
    readonly tokenizer: TextTokenizer; readonly transformer: OnnxStageModel; readonly head: FlowHead; readonly detokenizer: LatentDetokenizer;
  }) {
    this.manifest = manifest;
    this.tokenizer = parts.tokenizer;
    this.detokenizer = parts.detokenizer;
    this.#path = path;
    this.#transformer = parts.transformer;
    this.#head = parts.head;
  }

  /** The graphs as they are stored. */
  async graphs(): Promise<Readonly<Record<"transformer" | "flowHead" | "decoder", Uint8Array>>> {
    const read = ({ file }: { readonly file: string }) => readFile(this.#path(file));
    const { transformer, flowHead, decoder } = this.manifest;
    return { transformer: await read(transformer), flowHead: await read(flowHead), decoder: await read(decoder) };
  }

  /** Evaluations of the flow head on the way to one image. */
  get evaluations(): number {
    return this.manifest.stages.reduce((sum, { steps }) => sum + 2 * steps, 0);
  }

  /** Text tokens of a prompt and of none. */
  textsOf(prompt: string): readonly [prompt: readonly number[], nothing: readonly number[]] {
    return [this.tokenizer.encodePrompt(prompt), this.tokenizer.encodeNegativePrompt()];
  }

  /** Places that some prompts take in a pass. */
  textCount(prompts: readonly string[]): number {
    const longest = Math.max(...prompts.flatMap((prompt) => this.textsOf(prompt).map(({ length }) => length)));
    return Math.min(this.manifest.transformer.textPlaces, Math.ceil(longest / TEXT_BLOCK) * TEXT_BLOCK);
  }

  /** Sample the latents of some images at once, of unit variance. */
  async sample(wishes: readonly Wish[], guidanceScale: number): Promise<readonly Latent[]> {
    const { stages, latent: { channels } } = this.manifest;
    const textCount = this.textCount(wishes.map(({ prompt }) => prompt));
    const texts = wishes.map(({ prompt }) => this.textsOf(prompt).slice(0, guidanceScale === 1 ? 1 : 2));
    const memory: (readonly StageMemory[])[] = texts.flat().map(() => []);
    let latents: readonly (Latent | undefined)[] = wishes.map(() => undefined);
    for (const [stage, section] of stages.entries()) {
      const rows = texts.flatMap((branches, image) => branches.map((tokens): Omit<StageRow, "memory"> => ({ tokens, textCount, latent: latents[image] })));
      const outputs = await this.#transformer.forward(stage, rows.map((row, place) => ({ ...row, memory: memory[place]! })));
      outputs.forEach((output, place) => (memory[place] = [...memory[place]!, ...(output.memory ? [output.memory] : [])]));
      latents = await Promise.all(wishes.map(async ({ seed }, image) => {
        const [conditional, unconditional] = outputs.slice(image * texts[0]!.length) as [StageOutput, StageOutput?];
        const { signal } = new AbortController();
        const maps = { conditional: conditional.tokenMap, unconditional: texts[0]!.length > 1 ? unconditional?.tokenMap : undefined };
        const start = stageStart(stages, { seed, imageIndex: 0, stage }, channels, latents[image]);
        return (await sampleStage(this.#head, section, { stage, maps, start, guidanceScale, signal })).state;
      }));
    }
    return latents as readonly Latent[];
  }

  /** End all threads. */
  async close(): Promise<void> {
    await Promise.all([this.#transformer.close(), this.#head.close(), this.detokenizer.close()]);
  }
}
