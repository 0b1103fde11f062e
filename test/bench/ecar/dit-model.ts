import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { WeightType } from "#libs/bundle/manifest.js";
import { DitCheckpoint } from "#libs/convert/dit-checkpoint.js";
import type { DitConfig } from "#libs/convert/ecar-config.js";
import { buildDit, buildDitText } from "#libs/convert/dit-graph.js";
import { weightedSum, type Latent } from "#libs/flow/latent.js";
import { OnnxSession, type TensorData } from "#libs/onnx/session.js";

/** Added to the score of a position that a query may not see. */
const MASKED = -1e9;

/** How a latent is sampled. */
export interface DitSampling {
  readonly steps: number;
  /** midpoint evaluates twice a step, euler once. */
  readonly solver: "euler" | "midpoint";
  readonly guidanceScale: number;
}

/** What a pass over the text leaves, and what of it there is to see. */
interface DitText {
  readonly key: TensorData;
  readonly value: TensorData;
  /** Text tokens of each row; the rest is padding. */
  readonly lengths: readonly number[];
  readonly places: number;
}

/** The baseline in ONNX Runtime: it denoises the whole latent at every evaluation. */
export class DitModel {
  readonly config: DitConfig;
  /** Both graphs, as they were built. */
  readonly graphs: Readonly<Record<"text" | "step", Uint8Array>>;
  readonly #text: OnnxSession;
  readonly #step: OnnxSession;

  /** Build the graphs of a checkpoint into `folder`, which stays the caller's, and load them. The caller closes the model. */
  static async open(
    checkpointFolder: string, folder: string, { threads, weights }: { readonly threads: number; readonly weights: WeightType },
  ): Promise<DitModel> {
    const checkpoint = await DitCheckpoint.open(checkpointFolder);
    const graphs = { text: await buildDitText(checkpoint, { weights }), step: await buildDit(checkpoint, { weights }) };
    checkpoint.finish();
    const files = { text: join(folder, "dit-text.onnx"), step: join(folder, "dit.onnx") };
    await Promise.all([writeFile(files.text, graphs.text), writeFile(files.step, graphs.step)]);
    const text = await OnnxSession.open(files.text, { threads });
    return new DitModel(checkpoint.config, graphs, text, await OnnxSession.open(files.step, { threads }));
  }

  private constructor(config: DitConfig, graphs: DitModel["graphs"], text: OnnxSession, step: OnnxSession) {
    this.config = config;
    this.graphs = graphs;
    this.#text = text;
    this.#step = step;
  }

  /** Sample latents of unit variance from noise. @param prompts text tokens; @param nothing those of no prompt. */
  async sample(
    noises: readonly Latent[], prompts: readonly (readonly number[])[], nothing: readonly number[], { steps, solver, guidanceScale }: DitSampling,
  ): Promise<readonly Latent[]> {
    const isGuided = guidanceScale !== 1;
    const text = await this.read(isGuided ? [...prompts, ...prompts.map(() => nothing)] : prompts);
    const look = async (states: readonly Latent[], left: number): Promise<readonly Latent[]> => {
      const velocities = await this.velocities(isGuided ? [...states, ...states] : states, 1 - left, text);
      if (!isGuided) return velocities;
      return states.map((_, i) => weightedSum(guidanceScale, velocities[i]!, 1 - guidanceScale, velocities[i + states.length]!));
    };
    let states = noises;
    for (let step = 0; step < steps; step++) {
      const left = 1 - step / steps;
      let velocities = await look(states, left);
      if (solver === "midpoint") {
        const middles = states.map((state, i) => weightedSum(1, state, 0.5 / steps, velocities[i]!));
        velocities = await look(middles, left - 0.5 / steps);
      }
      states = states.map((state, i) => weightedSum(1, state, 1 / steps, velocities[i]!));
    }
    return states;
  }

  /** The pass over texts. */
  async read(rows: readonly (readonly number[])[]): Promise<DitText> {
    const places = Math.max(...rows.map(({ length }) => length));
    const lengths = rows.map(({ length }) => length);
    const { key, value } = await this.#text.run({
      ids: whole(rows.flatMap((row) => Array.from({ length: places }, (_, i) => row[i] ?? 0)), rows.length),
      places: whole(rows.flatMap(() => Array.from({ length: places }, (_, i) => i)), rows.length),
      bias: bias(lengths, places, 0),
    });
    return { key, value, lengths, places };
  }

  /** One evaluation at some states, of which each has a row of the text. @param time 0 at the noise, 1 at the clean latent. */
  async velocities(states: readonly Latent[], time: number, { key, value, lengths, places }: DitText): Promise<readonly Latent[]> {
    const { side, maxPromptTokens } = this.config;
    const [{ channels }] = states as readonly [Latent];
    const size = channels * side ** 2;
    const latent = new Float32Array(states.length * size);
    states.forEach(({ values }, row) => latent.set(values, row * size));
    const { velocity } = await this.#step.run({
      latent: { type: "float32", data: latent, dims: [states.length, channels, side, side] },
      time: { type: "float32", data: new Float32Array(states.length).fill(time), dims: [states.length] },
      places: whole(states.flatMap(() => Array.from({ length: side ** 2 }, (_, i) => maxPromptTokens + i)), states.length),
      bias: bias(lengths, places, side ** 2), past_key: key, past_value: value,
    });
    const all = velocity.data as Float32Array;
    return states.map((state, row) => ({ ...state, values: all.slice(row * size, (row + 1) * size) }));
  }

  /** End both threads. */
  async close(): Promise<void> {
    await Promise.all([this.#text.close(), this.#step.close()]);
  }
}

function whole(numbers: readonly number[], rows: number): TensorData {
  return { type: "int64", data: BigInt64Array.from(numbers, BigInt), dims: [rows, numbers.length / rows] };
}

/** Hides padding, which lies behind each row's text. */
function bias(lengths: readonly number[], places: number, cells: number): TensorData {
  const keys = places + cells;
  const data = new Float32Array(lengths.length * keys);
  lengths.forEach((length, row) => data.fill(MASKED, row * keys + length, row * keys + places));
  return { type: "float32", data, dims: [lengths.length, 1, 1, 1, keys] };
}
