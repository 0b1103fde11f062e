import { timeSteps } from "../step-time.js";
import { importPeer, tellCost, type PeerLoad } from "./peer.js";

/** The part of node-llama-cpp that is used here. */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{ loadModel(options: { readonly modelPath: string }): Promise<Model> }>;
}
interface Model {
  createContext(options: object): Promise<Context>;
}
interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}
interface Sequence {
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  evaluate(tokens: readonly number[], options: object): AsyncGenerator<number, void, number | undefined>;
}

// A process of its own: PEERS GGUF LOAD. Two sequences step together, as llama.cpp batches them.
const [, , folder, modelPath, load] = process.argv;
const { threads, pasts, steps } = JSON.parse(load) as PeerLoad;
const { getLlama } = await importPeer<NodeLlamaCpp>(folder, "node-llama-cpp");
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, progressLogs: false, logLevel: "error" });
const startedAt = performance.now();
const model = await llama.loadModel({ modelPath });
const loadMs = performance.now() - startedAt;
const times = [];
for (const past of pasts) {
  const context = await model.createContext({ sequences: 2, contextSize: past + steps + 8, batchSize: 512, threads });
  const sequences = [context.getSequence(), context.getSequence()];
  const prompt = Array.from({ length: past }, (_, index) => 1 + ((index * 7919) % 200_000));
  await Promise.all(sequences.map((sequence) => sequence.evaluateWithoutGeneratingNewTokens(prompt)));
  const generators = sequences.map((sequence) => sequence.evaluate([1], { temperature: 0, yieldEogToken: true }));
  times.push(await timeSteps(past, steps, () => Promise.all(generators.map((generator) => generator.next(1)))));
  await context.dispose();
}
tellCost(loadMs, times);
process.exit(0);
