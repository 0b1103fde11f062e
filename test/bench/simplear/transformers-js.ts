import { CONFIG, TEXT_TOKENS } from "./random-model.js";
import { timeSteps } from "../step-time.js";
import { importPeer, tellCost, type PeerLoad } from "./peer.js";

/** The part of @huggingface/transformers that is used here. */
interface TransformersJs {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly Tensor: new (type: string, data: BigInt64Array | Float32Array, dims: readonly number[]) => object;
  readonly AutoModelForCausalLM: {
    from_pretrained(name: string, options: object): Promise<{ forward(inputs: object): Promise<unknown> }>;
  };
}

// A process of its own: PEERS MODELS LOAD. The model lies in MODELS/random.
const [, , folder, modelsFolder, load] = process.argv;
const { threads, pasts, steps } = JSON.parse(load) as PeerLoad;
const { env, Tensor, AutoModelForCausalLM } = await importPeer<TransformersJs>(folder, "@huggingface/transformers");
Object.assign(env, { allowRemoteModels: false, localModelPath: modelsFolder });
const startedAt = performance.now();
const sessionOptions = { intraOpNumThreads: threads, interOpNumThreads: 1 };
const model = await AutoModelForCausalLM.from_pretrained("random", { dtype: "q8", device: "cpu", session_options: sessionOptions });
const loadMs = performance.now() - startedAt;
const times = [];
for (const past of pasts) {
  const dims = [2, CONFIG.keyValueHeads, past, CONFIG.headSize];
  const rows = () => new Tensor("float32", new Float32Array(dims.reduce((a, b) => a * b)).fill(0.1), dims);
  const names = Array.from({ length: CONFIG.layers }, (_, layer) => ["key", "value"].map((part) => `past_key_values.${layer}.${part}`)).flat();
  const cache = Object.fromEntries(names.map((name) => [name, rows()]));
  const ids = new Tensor("int64", new BigInt64Array(2).fill(BigInt(TEXT_TOKENS)), [2, 1]);
  const mask = new Tensor("int64", new BigInt64Array(2 * (past + 1)).fill(1n), [2, past + 1]);
  times.push(await timeSteps(past, steps, () => model.forward({ input_ids: ids, attention_mask: mask, past_key_values: cache })));
}
tellCost(loadMs, times);
process.exit(0);
