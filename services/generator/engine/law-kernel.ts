import { invariant } from "#libs/errors/errors.js";
import type { SamplingSettings } from "./generation.js";
import { FAN_OUT } from "./gumbel-noise.js";
import type { Law } from "./law.js";
import { LAW_KERNEL } from "./gen/law-kernel.js";

/** How the law of a token comes from its rows. */
export interface LawSettings extends SamplingSettings {
  /** Unitless, >= 1; has no meaning for a single row. */
  readonly guidanceScale: number;
}

/**
 * How far below the largest logit tokens are looked at one by one for top-p. All tokens beyond have little weight together,
 * so that it seldom matters how much exactly.
 */
const REACH = 16;

/** What the compiled module exports; `assembly/law-kernel.ts` says what each does. */
interface Kernel {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly logits: { readonly value: number };
  readonly unconditional: { readonly value: number };
  readonly tops: { readonly value: number };
  readonly edge: { readonly value: number };
  readonly lastTie: { readonly value: number };
  readonly kept: { readonly value: number };
  readonly total: { readonly value: number };
  readonly missing: { readonly value: number };
  open(codebookSize: number): void;
  shape(isGuided: boolean, guidanceScale: number, temperature: number): number;
  selectCount(k: number): void;
  selectShare(share: number, floor: number): void;
  selectLargest(): void;
}

/** As far as it is used here; the types of Node.js do not know it. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

const compiled = new WebAssembly.Module(Buffer.from(LAW_KERNEL, "base64"));

/** Makes laws of rows of logits, one at a time, in memory of its own. */
export class LawKernel {
  readonly #kernel: Kernel;
  readonly #logits: Float32Array;
  readonly #unconditional: Float32Array;
  readonly #tops: Float32Array;

  /** @param codebookSize tokens that a row has logits for. */
  constructor(codebookSize: number) {
    const kernel = new WebAssembly.Instance(compiled).exports as unknown as Kernel;
    kernel.open(codebookSize);
    const floats = (at: number, length: number) => new Float32Array(kernel.memory.buffer, at, length);
    this.#kernel = kernel;
    this.#logits = floats(kernel.logits.value, codebookSize);
    this.#unconditional = floats(kernel.unconditional.value, codebookSize);
    this.#tops = floats(kernel.tops.value, Math.ceil(codebookSize / FAN_OUT));
  }

  /**
   * The law of the next token: the repetition penalty on the conditional row, classifier-free guidance, `u + s * (c - u)`,
   * then temperature, top-k and top-p, in this order (that of Hugging Face transformers). Top-k keeps all that tie with the smallest of the k; top-p keeps the smallest set
   * of most likely tokens whose probabilities sum to at least p, the smallest ids of a tie.
   * @param rows `[V]` each: conditional, then unconditional unless guidance is off. They stay as they are.
   * @param seen tokens of the image so far, which are penalised.
   * @returns a law that holds until the next one is made.
   * @throws AppError "internal" if the logits are not numbers, which is the model's fault.
   * @see Ho & Salimans, arXiv 2207.12598; Keskar et al., arXiv 1909.05858 (repetition penalty)
   */
  law([conditional, unconditional]: readonly Float32Array[], settings: LawSettings, seen: Iterable<number> = []): Law {
    const { guidanceScale, temperature, topK, topP, repetitionPenalty } = settings;
    const kernel = this.#kernel;
    this.#logits.set(conditional);
    if (repetitionPenalty !== 1) this.#penalise(seen, repetitionPenalty);
    if (unconditional !== undefined) this.#unconditional.set(unconditional);
    const largest = kernel.shape(unconditional !== undefined, guidanceScale, temperature === 0 ? 1 : temperature);
    if (!Number.isFinite(largest)) throw invariant(`the model's largest logit is ${largest}`);
    let floor = -Infinity;
    let lastTie = Infinity;
    if (temperature === 0) {
      kernel.selectLargest();
      [floor, lastTie] = [largest, kernel.lastTie.value];
    } else {
      if (topK > 0 && topK < conditional.length) {
        kernel.selectCount(topK);
        floor = kernel.edge.value;
      }
      if (topP < 1) {
        this.#selectNucleus(topP, largest, floor);
        [floor, lastTie] = [kernel.edge.value, kernel.lastTie.value];
      }
    }
    return { logits: this.#logits, tops: this.#tops, floor, lastTie };
  }

  #penalise(seen: Iterable<number>, penalty: number): void {
    const logits = this.#logits;
    for (const token of new Set(seen)) logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
  }

  #selectNucleus(share: number, largest: number, floor: number): void {
    const kernel = this.#kernel;
    const near = Math.max(floor, largest - REACH);
    kernel.selectShare(share, near);
    if (near === floor) return;
    // What is far weighs between nothing and this much; a set that suffices for both is the one.
    const far = kernel.missing.value * Math.exp(-REACH);
    if (kernel.kept.value < share * (kernel.total.value + far)) kernel.selectShare(share, floor);
  }
}
