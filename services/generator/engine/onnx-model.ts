import { Tensor, type InferenceSession } from "onnxruntime-node";
import type { TokenManifest } from "#libs/bundle/manifest.js";
import { createInferenceSession, type SessionOptions } from "#libs/onnx/create-session.js";
import { MASKED } from "./kv-cache.js";
import type { Model, ModelLayout, Pass, PassOutput } from "./model.js";

/** The sizes that the engine needs, from a bundle. */
export function layoutOf({ transformer, image }: TokenManifest): ModelLayout {
  return {
    layers: transformer.layers, keyValueHeads: transformer.keyValueHeads, headSize: transformer.headSize,
    codebookSize: image.codebookSize, tokenOffset: image.tokenOffset,
    imageTokenCount: image.gridHeight * image.gridWidth, maxPositions: transformer.maxPositions,
  };
}

/** Causal mask among `count` new positions, `[count, count]`. */
function causalBias(count: number): Float32Array {
  const bias = new Float32Array(count * count);
  for (let query = 0; query < count; query++) bias.fill(MASKED, query * count + query + 1, (query + 1) * count);
  return bias;
}

/** A transformer graph on ONNX Runtime; the graph's inputs and outputs are described at `TransformerSection`. */
export class OnnxModel implements Model {
  readonly layout: ModelLayout;
  readonly #session: InferenceSession;

  /** Load a transformer graph; the caller releases it. @throws AppError as `createInferenceSession` does. */
  static async open(graphFile: string, layout: ModelLayout, options: SessionOptions): Promise<OnnxModel> {
    return new OnnxModel(await createInferenceSession(graphFile, options), layout);
  }

  private constructor(session: InferenceSession, layout: ModelLayout) {
    this.#session = session;
    this.layout = layout;
  }

  /** Free the graph; no pass may be under way. */
  release(): Promise<void> {
    return this.#session.release();
  }

  async forward({ cache, firstRow, rows, ids, logitsFrom }: Pass): Promise<PassOutput> {
    const { layers, keyValueHeads: heads, headSize, maxPositions } = this.layout;
    const count = ids.length / rows;
    const lengths = cache.lengths.subarray(firstRow, firstRow + rows);
    const past = lengths.every((length) => length === 0) ? 0 : cache.capacity;
    // Beyond the last position lie only places that fill a shorter window up, and the graph has no rotation for those.
    const positions = BigInt64Array.from(ids, (_, i) => (
      BigInt(Math.min(maxPositions - 1, lengths[Math.floor(i / count)] + (i % count)))
    ));
    const rowSize = heads * headSize * past;
    const rowsOf = (buffer: Float32Array, size: number) => buffer.subarray(firstRow * size, (firstRow + rows) * size);
    const feeds: Record<string, Tensor> = {
      ids: new Tensor("int64", ids, [rows, count]),
      positions: new Tensor("int64", positions, [rows, count]),
      past_bias: new Tensor("float32", rowsOf(cache.bias, past), [rows, 1, 1, past]),
      window_bias: new Tensor("float32", causalBias(count), [count, count]),
      logits_from: new Tensor("int64", BigInt64Array.of(BigInt(logitsFrom)), [1]),
    };
    for (let layer = 0; layer < layers; layer++) {
      feeds[`past_key.${layer}`] = new Tensor("float32", rowsOf(cache.keys[layer], rowSize), [rows, heads, past, headSize]);
      feeds[`past_value.${layer}`] = new Tensor("float32", rowsOf(cache.values[layer], rowSize), [rows, heads, past, headSize]);
    }
    const { logits, new_key: newKeys, new_value: newValues } = await this.#session.run(feeds);
    return {
      logits: logits!.data as Float32Array, newKeys: newKeys!.data as Float32Array, newValues: newValues!.data as Float32Array,
    };
  }
}
