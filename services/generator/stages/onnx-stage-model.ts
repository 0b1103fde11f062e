import { basename } from "node:path";
import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { type AppError, mismatch } from "#libs/errors/errors.js";
import { enlarged, type Latent } from "#libs/flow/latent.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";
import { OnnxSession, type TensorData } from "#libs/onnx/session.js";
import type { StageLayout, StageMemory, StageModel, StageOutput, StageRow } from "./stage-model.js";

/** Added to the score of a position that a query may not see. */
const MASKED = -1e9;

const INPUTS = ["ids", "context", "places", "bias", "past_key", "past_value"];

/** The sizes that an engine needs, from a bundle. */
export function stageLayoutOf({ stages, latent, transformer }: StageManifest): StageLayout {
  const { tokenMapChannels, textPlaces } = transformer;
  return { latents: stages.map(({ height, width }) => ({ channels: latent.channels, height, width })), tokenMapChannels, textPlaces };
}

/** A stage transformer graph in a thread of its own; its inputs and outputs are described at `StageTransformerSection`. */
export class OnnxStageModel implements StageModel {
  readonly layout: StageLayout;
  readonly #session: OnnxSession;
  readonly #layers: number;
  /** Numbers of one position in the keys of one layer. */
  readonly #width: number;

  /** Load the graph. The caller closes it. @throws mismatch if it is not what the bundle describes; else as `OnnxSession.open`. */
  static async open(graphFile: string, manifest: StageManifest, options: SessionOptions): Promise<OnnxStageModel> {
    const session = await OnnxSession.open(graphFile, options);
    if (INPUTS.every((name) => session.inputs.some((input) => input.name === name))) return new OnnxStageModel(session, manifest);
    await session.close();
    throw mismatch(`${basename(graphFile)} must take ${INPUTS.join(", ")}`);
  }

  private constructor(session: OnnxSession, manifest: StageManifest) {
    const { layers, keyValueHeads, headSize } = manifest.transformer;
    this.layout = stageLayoutOf(manifest);
    this.#session = session;
    this.#layers = layers;
    this.#width = keyValueHeads * headSize;
  }

  /** Settles once the thread has ended: undefined after `close()`, the error if it crashed. Never rejects. */
  get ended(): Promise<AppError | undefined> {
    return this.#session.ended;
  }

  /** End the thread; a pass under way rejects with "not-ready". May be called again. */
  close(): Promise<void> {
    return this.#session.close();
  }

  async forward(stage: number, rows: readonly StageRow[]): Promise<readonly StageOutput[]> {
    const isLast = stage === this.layout.latents.length - 1;
    const names = isLast ? ["token_map"] : ["token_map", "new_key", "new_value"];
    const outputs = await this.#session.run(this.#feeds(stage, rows), names, { transferFeeds: true });
    const maps = outputs["token_map"].data as Float32Array;
    const mapSize = maps.length / rows.length;
    return rows.map((_, row) => ({
      tokenMap: maps.slice(row * mapSize, (row + 1) * mapSize),
      memory: isLast ? undefined : this.#memoryOf(outputs["new_key"], outputs["new_value"], row),
    }));
  }

  #feeds(stage: number, rows: readonly StageRow[]): Readonly<Record<string, TensorData>> {
    const { latents, textPlaces } = this.layout;
    const { channels, height, width } = latents[stage];
    const cells = height * width;
    const isFirst = stage === 0;
    const textCount = isFirst ? rows[0].textCount : 0;
    const past = rows[0].memory.reduce((sum, { positions }) => sum + positions, 0);
    const firstCell = textPlaces + latents.slice(0, stage).reduce((sum, each) => sum + each.height * each.width, 0);
    const count = textCount + cells;
    const ids = BigInt64Array.from({ length: rows.length * textCount }, (_, i) =>
      BigInt(rows[Math.floor(i / textCount)].tokens[i % textCount] ?? 0));
    const context = new Float32Array(rows.length * cells * channels);
    rows.forEach(({ latent }, row) => latent && writeCells(enlarged(latent), context, row * cells * channels));
    const places = BigInt64Array.from({ length: rows.length * count }, (_, i) =>
      BigInt(i % count < textCount ? i % count : firstCell + (i % count) - textCount));
    const tensor = (data: Float32Array, ...dims: readonly number[]): TensorData => ({ type: "float32", data, dims });
    const pastRows = (of: (memory: StageMemory) => Float32Array): TensorData =>
      tensor(this.#joined(rows, past, of), this.#layers, rows.length, past, this.#width);
    return {
      ids: { type: "int64", data: ids, dims: [rows.length, textCount] },
      context: tensor(context, rows.length, cells, channels),
      places: { type: "int64", data: places, dims: [rows.length, count] },
      bias: isFirst
        ? tensor(firstBias(rows, textCount, count), rows.length, 1, 1, count, count)
        : tensor(laterBias(rows, past + cells), rows.length, 1, 1, 1, past + cells),
      past_key: pastRows(({ keys }) => keys),
      past_value: pastRows(({ values }) => values),
    };
  }

  /** The memories of all rows side by side, `[layers, rows, past, width]`. */
  #joined(rows: readonly StageRow[], past: number, of: (memory: StageMemory) => Float32Array): Float32Array {
    const joined = new Float32Array(this.#layers * rows.length * past * this.#width);
    let at = 0;
    for (let layer = 0; layer < this.#layers; layer++) {
      for (const memory of rows.flatMap((row) => row.memory)) {
        const size = memory.positions * this.#width;
        joined.set(of(memory).subarray(layer * size, (layer + 1) * size), at);
        at += size;
      }
    }
    return joined;
  }

  /** One row of `[layers, rows, positions, width]`, on buffers of its own. */
  #memoryOf(newKey: TensorData, newValue: TensorData, row: number): StageMemory {
    const [, rows, positions] = newKey.dims;
    const size = positions * this.#width;
    const rowOf = ({ data }: TensorData): Float32Array => {
      const own = new Float32Array(this.#layers * size);
      for (let layer = 0; layer < this.#layers; layer++) {
        const start = (layer * rows + row) * size;
        own.set((data as Float32Array).subarray(start, start + size), layer * size);
      }
      return own;
    };
    return { positions, keys: rowOf(newKey), values: rowOf(newValue) };
  }
}

/** `[channels, height, width]` to `[cells, channels]`, from `at` on. */
function writeCells({ channels, values }: Latent, target: Float32Array, at: number): void {
  const cells = values.length / channels;
  for (let i = 0; i < values.length; i++) target[at + (i % cells) * channels + Math.floor(i / cells)] = values[i];
}

/** Text sees the text that is there; cells see it and each other. */
function firstBias(rows: readonly StageRow[], textCount: number, count: number): Float32Array {
  const bias = new Float32Array(rows.length * count * count);
  rows.forEach(({ tokens }, row) => {
    for (let query = 0; query < count; query++) {
      const start = (row * count + query) * count;
      bias.fill(MASKED, start + tokens.length, start + textCount);
      if (query < textCount) bias.fill(MASKED, start + textCount, start + count);
    }
  });
  return bias;
}

/** Everything is to be seen but places without text, which come first. */
function laterBias(rows: readonly StageRow[], keys: number): Float32Array {
  const bias = new Float32Array(rows.length * keys);
  rows.forEach(({ tokens, textCount }, row) => bias.fill(MASKED, row * keys + tokens.length, row * keys + textCount));
  return bias;
}
