import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { convert } from "#libs/convert/convert.js";
import { readSafetensors } from "#libs/convert/safetensors.js";
import { TensorSource } from "#libs/convert/tensor-source.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { LawKernel } from "#services/generator/engine/law-kernel.js";
import { largestDistance } from "#test/fixtures/goldens.js";
import { referenceFolder } from "./reference.js";

/** Told of each comparison as it is through: the largest distance from the reference, and how large it may be. */
export type ReportCheck = (name: string, distance: number, limit: number) => void;

const LOGIT_LIMIT = 1e-3;
const GUIDED_LIMIT = 1e-5;
const GUIDANCE_SCALE = 6;
/** Single steps that are compared near the start and at the end. */
const STEPS = 16;

/** What `qwen2_reference.py` left. Ids are the transformer's own. */
interface Goldens {
  readonly prompt: readonly number[];
  readonly unconditional: readonly number[];
  readonly image: readonly number[];
  /** `[rows, codebook]` from the last prompt token on; of the last positions; and guided probabilities. */
  readonly near: Float32Array;
  readonly far: Float32Array;
  readonly guided: Float32Array;
  readonly codebookSize: number;
}

/**
 * Hold the converted 0.5B transformer to Hugging Face Qwen2 on a random checkpoint of the published size, which is made and
 * kept on the first run. It takes about 8 GB of memory and some minutes.
 */
export async function fullTransformer(report: ReportCheck, signal: AbortSignal): Promise<void> {
  const folder = await referenceFolder("qwen2-0.5B", "qwen2_reference.py", ["--size", "0.5B"], { signal });
  const draft = await mkdtemp(join(folder, "bundle-"));
  try {
    const { manifest, path } = await convert({
      lmFolder: join(folder, "lm"), decoderFile: join(folder, "decoder.jit"), outFolder: join(draft, "fp32"),
      weights: "fp32", name: "parity", grid: [64, 64], signal,
    }).then(({ folder: out }) => openTokenBundle(out, { verify: false }));
    const goldens = await readGoldens(join(folder, "goldens.safetensors"), manifest.image.tokenOffset);
    const runner = await TransformerRunner.open(path(manifest.transformer.file), manifest.transformer);
    try {
      for (const check of [prefill, singleSteps, windows, farPositions, guidedPair]) {
        signal.throwIfAborted();
        await check(runner, goldens, report);
      }
    } finally {
      await runner.close();
    }
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function readGoldens(path: string, tokenOffset: number): Promise<Goldens> {
  const source = new TensorSource("goldens", await readSafetensors(path));
  const integers = (name: string): Promise<readonly number[]> => source.integers(name, source.shape(name));
  const floats = (name: string): Promise<Float32Array> => source.floats(name, source.shape(name));
  return {
    prompt: await integers("prompt"), unconditional: await integers("unconditional"),
    image: (await integers("tokens")).map((token) => token + tokenOffset),
    near: await floats("near.logits"), far: await floats("far.logits"), guided: await floats("guided"),
    codebookSize: source.shape("guided")[1],
  };
}

/** The prompt and the image tokens whose logits `near` holds. */
function nearIds({ prompt, image, near, codebookSize }: Goldens): readonly number[] {
  return [...prompt, ...image.slice(0, near.length / codebookSize - 1)];
}

async function prefill(runner: TransformerRunner, goldens: Goldens, report: ReportCheck): Promise<void> {
  runner.reset(1, 0);
  const logits = await runner.run({ ids: [nearIds(goldens)], logitsFrom: goldens.prompt.length - 1 });
  report("prefill in one pass", largestDistance(logits, goldens.near), LOGIT_LIMIT);
}

async function singleSteps(runner: TransformerRunner, { prompt, image, near, codebookSize }: Goldens, report: ReportCheck): Promise<void> {
  runner.reset(1, prompt.length + STEPS);
  const rows = [await runner.run({ ids: [prompt], logitsFrom: prompt.length - 1 })];
  for (const id of image.slice(0, STEPS)) rows.push(await runner.run({ ids: [[id]] }));
  const distances = rows.map((row, index) => largestDistance(row, near.subarray(index * codebookSize, (index + 1) * codebookSize)));
  report("prefill, then single steps", Math.max(...distances), LOGIT_LIMIT);
}

async function windows(runner: TransformerRunner, goldens: Goldens, report: ReportCheck): Promise<void> {
  const [ids, size] = [nearIds(goldens), 7];
  const skipped = goldens.prompt.length - 1;
  runner.reset(1, ids.length);
  let largest = 0;
  for (let start = 0; start < ids.length; start += size) {
    const window = ids.slice(start, start + size);
    const logits = await runner.run({ ids: [window] });
    const from = Math.max(0, skipped - start);
    const expected = goldens.near.subarray((start + from - skipped) * goldens.codebookSize);
    const wanted = logits.subarray(from * goldens.codebookSize);
    if (wanted.length > 0) largest = Math.max(largest, largestDistance(wanted, expected.subarray(0, wanted.length)));
  }
  report("windows of 7 over the cache", largest, LOGIT_LIMIT);
}

/** The whole image in windows, and its last positions, beyond 4,096, in small windows and single steps. */
async function farPositions(runner: TransformerRunner, { prompt, image, far, codebookSize }: Goldens, report: ReportCheck): Promise<void> {
  const ids = [...prompt, ...image];
  const count = far.length / codebookSize;
  runner.reset(1, ids.length);
  for (let start = 0; start < ids.length - count; start += 256) {
    const window = ids.slice(start, Math.min(start + 256, ids.length - count));
    await runner.run({ ids: [window], logitsFrom: window.length - 1 });
  }
  let largest = 0;
  for (let done = 0, size = 8; done < count; done += size) {
    if (count - done <= STEPS) size = 1;
    const logits = await runner.run({ ids: [ids.slice(ids.length - count + done, ids.length - count + done + size)] });
    largest = Math.max(largest, largestDistance(logits, far.subarray(done * codebookSize, (done + size) * codebookSize)));
  }
  report(`positions ${ids.length - count} to ${ids.length - 1}`, largest, LOGIT_LIMIT);
}

async function guidedPair(runner: TransformerRunner, goldens: Goldens, report: ReportCheck): Promise<void> {
  const { prompt, unconditional, image, guided, codebookSize } = goldens;
  const steps = guided.length / codebookSize - 1;
  runner.reset(2, prompt.length + steps);
  const first = [];
  for (const [firstRow, ids] of [prompt, unconditional].entries()) {
    first.push(await runner.run({ firstRow, ids: [ids], logitsFrom: ids.length - 1 }));
  }
  const kernel = new LawKernel(codebookSize);
  let largest = 0;
  for (let step = 0, pair = first; step <= steps; step++) {
    if (step > 0) {
      const logits = await runner.run({ ids: [[image[step - 1]], [image[step - 1]]] });
      pair = [logits.subarray(0, codebookSize), logits.subarray(codebookSize)];
    }
    const { logits } = kernel.law(pair, { guidanceScale: GUIDANCE_SCALE, temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1 });
    const expected = guided.subarray(step * codebookSize, (step + 1) * codebookSize);
    largest = Math.max(largest, largestDistance(softmax(logits), expected));
  }
  report("guided distribution of a pair", largest, GUIDED_LIMIT);
}

function softmax(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}
