import { LawKernel } from "#services/generator/engine/law-kernel.js";
import { sample } from "#services/generator/engine/sampler.js";
import { median } from "./table.js";

/** The time from a pair of rows to a token. */
export interface SamplingCost {
  readonly what: string;
  readonly microseconds: number;
}

const CASES = [
  { codebookSize: 64_000, guidanceScale: 6, topK: 0, topP: 1 },
  { codebookSize: 64_000, guidanceScale: 6, topK: 1000, topP: 1 },
  { codebookSize: 64_000, guidanceScale: 6, topK: 0, topP: 0.9 },
  { codebookSize: 64_000, guidanceScale: 1.1, topK: 0, topP: 0.9 },
  { codebookSize: 4375, guidanceScale: 6, topK: 0, topP: 1 },
  { codebookSize: 4375, guidanceScale: 1.5, topK: 0, topP: 0.5 },
];
const ROUNDS = 200;

/** Logits with the spread of a trained model: most tokens far below a few. */
function row(codebookSize: number, seed: number): Float32Array {
  return Float32Array.from({ length: codebookSize }, (_, v) => 3 * Math.log(Math.abs(Math.sin(v * 12.9898 + seed)) + 1e-3));
}

/** Guidance, processors and the draw, the middle of 200 tokens. */
export function samplingCost(): readonly SamplingCost[] {
  return CASES.map(({ codebookSize, guidanceScale, topK, topP }) => {
    const kernel = new LawKernel(codebookSize);
    const rows = [row(codebookSize, 1), row(codebookSize, 1.1)];
    const times = Array.from({ length: ROUNDS }, (_, position) => {
      const startedAt = performance.now();
      sample(kernel.law(rows, { guidanceScale, temperature: 1, topK, topP, repetitionPenalty: 1 }), { seed: 1n, imageIndex: 0, position });
      return 1000 * (performance.now() - startedAt);
    });
    return { what: `${codebookSize} ids, guidance ${guidanceScale}, top-k ${topK}, top-p ${topP}`, microseconds: median(times) };
  });
}
