import { InferenceSession, Tensor } from "onnxruntime-node";
import { Graph } from "#libs/onnx/graph.js";

const [INPUTS, OUTPUTS, RUNS] = [4096, 16_384, 8];

/**
 * Bytes a second that a product of one row with a float32 matrix of 268 MB reads, the best of a few runs: what the memory
 * gives to `threads` threads, and so the most that a decode step can use. Seconds are those of the threads, so that others at
 * work on them count little.
 */
export async function memoryBandwidth(threads: number): Promise<number> {
  const graph = new Graph("bandwidth");
  const matrix = graph.constant("matrix", new Float32Array(INPUTS * OUTPUTS).fill(0.5), [INPUTS, OUTPUTS]);
  graph.output("y", graph.op("MatMul", [graph.input("x", "float32", [1, INPUTS]), matrix]), "float32", [1, OUTPUTS]);
  const session = await InferenceSession.create(graph.toBytes(), { intraOpNumThreads: threads });
  const x = new Tensor("float32", new Float32Array(INPUTS).fill(1), [1, INPUTS]);
  let least = Infinity;
  for (let run = 0; run < RUNS; run++) {
    const start = process.cpuUsage();
    await session.run({ x });
    const { user, system } = process.cpuUsage(start);
    least = Math.min(least, (user + system) / 1000 / threads);
  }
  await session.release();
  return (4 * INPUTS * OUTPUTS * 1000) / least;
}
