import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Tensor, type InferenceSession } from "onnxruntime-node";
import { collectCosmosDecoder, collectCosmosEncoder, type Compression } from "#libs/convert/cosmos-checkpoint.js";
import { buildDecoder } from "#libs/convert/decoder-graph.js";
import { buildEncoder } from "#libs/convert/encoder-graph.js";
import { readSafetensors } from "#libs/convert/safetensors.js";
import { TensorSource } from "#libs/convert/tensor-source.js";
import { readTorchArchive } from "#libs/convert/torch-archive.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";
import { WeightFile } from "#libs/onnx/weight-file.js";
import { largestDistance } from "#test/fixtures/goldens.js";

/** A graph of one half of a Cosmos tokenizer, loaded. */
export interface CosmosSession {
  /** Run it on tokens, latents or pixels. @returns what it gives, and its sizes. */
  run(input: Float32Array | readonly number[], dims: readonly number[]): Promise<{ readonly data: Float32Array | BigInt64Array; readonly dims: readonly number[] }>;
  /** Release the session and remove its files. */
  close(): Promise<void>;
}

/** Convert one half of a tokenizer and load it. The caller closes it. @param options.threads inside one operator; default 1. */
export async function openCosmos(
  tensors: TensorSource, part: "encoder" | "decoder", options: { readonly threads?: number; readonly compression?: Compression } = {},
): Promise<CosmosSession> {
  const { threads = 1, compression } = options;
  const folder = await mkdtemp(join(tmpdir(), "tessera-cosmos-"));
  const path = join(folder, `${part}.onnx`);
  const weightFile = new WeightFile(`${path}.data`);
  let session: InferenceSession | undefined;
  try {
    await writeFile(path, part === "encoder"
      ? await buildEncoder(await collectCosmosEncoder(tensors, compression), { weights: "fp32", weightFile })
      : await buildDecoder(await collectCosmosDecoder(tensors, compression), { weights: "fp32", weightFile }));
    weightFile.close();
    session = await createInferenceSession(path, { threads });
  } finally {
    weightFile.close();
    if (session === undefined) await rm(folder, { recursive: true });
  }
  const opened = session;
  return {
    run: async (input, dims) => {
      const tensor = input instanceof Float32Array
        ? new Tensor("float32", input, dims) : new Tensor("int64", BigInt64Array.from(input, BigInt), dims);
      const [result] = Object.values(await opened.run({ [opened.inputNames[0]]: tensor }));
      return { data: result.data as Float32Array | BigInt64Array, dims: result.dims };
    },
    close: async () => {
      await opened.release();
      await rm(folder, { recursive: true });
    },
  };
}

/** How far one input's result lies from the reference's. */
export interface CosmosDistance {
  readonly part: "encoder" | "decoder";
  /** Sizes of the input. */
  readonly dims: readonly number[];
  /** Largest distance between two pixels or latents; for tokens, the share that differs. */
  readonly distance: number;
  readonly seconds: number;
}

/**
 * Convert and run what `make_cosmos_checkpoint.py DIR` wrote: every golden input of it, one after the other.
 * @param folder holds encoder.jit, decoder.jit and goldens.safetensors.
 */
export async function* measureCosmos(folder: string, threads?: number): AsyncGenerator<CosmosDistance> {
  const goldens = new TensorSource("goldens", await readSafetensors(join(folder, "goldens.safetensors")));
  for (const part of ["decoder", "encoder"] as const) {
    const session = await openCosmos(await readTorchArchive(join(folder, `${part}.jit`)), part, threads === undefined ? {} : { threads });
    try {
      for (let index = 0; goldens.has(`${part}.in.${index}`); index++) {
        const input = await readAny(goldens, `${part}.in.${index}`);
        const dims = goldens.shape(`${part}.in.${index}`);
        const start = performance.now();
        const { data } = await session.run(input, dims);
        const seconds = (performance.now() - start) / 1000;
        yield { part, dims, seconds, distance: distanceOf(data, await readAny(goldens, `${part}.out.${index}`)) };
      }
    } finally {
      await session.close();
    }
  }
}

/** The largest distance of floats, or the share of tokens that differ. */
export function distanceOf(actual: Float32Array | BigInt64Array, expected: Float32Array | readonly number[]): number {
  if (actual instanceof Float32Array) return largestDistance(actual, expected);
  if (actual.length !== expected.length) return 1;
  return actual.reduce((count, token, index) => count + (Number(token) === expected[index] ? 0 : 1), 0) / actual.length;
}

/** A golden array, of floats or of whole numbers. */
export async function readAny(goldens: TensorSource, name: string): Promise<Float32Array | readonly number[]> {
  const shape = goldens.shape(name);
  return goldens.floats(name, shape).catch(() => goldens.integers(name, shape));
}
