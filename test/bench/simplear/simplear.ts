import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type TokenBundle, DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import type { WeightType } from "#libs/bundle/manifest.js";
import { parseFlags } from "#libs/cli/command.js";
import { integerFlag } from "#libs/cli/flags.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { cacheFolder, findPython } from "#test/parity/reference.js";
import { measureDecoder, type DecoderTime } from "../measured-decoder.js";
import { measureTransformer, type TransformerCost } from "../measured-transformer.js";
import { weightDistance, type WeightDistance } from "../weight-distance.js";
import { memoryBandwidth } from "./memory-bandwidth.js";
import { runPeer, type PeerLoad, type PeerOutcome } from "./peer.js";
import { writePublishedModel } from "./published-graph.js";
import { writeRandomGguf } from "./random-gguf.js";
import { TEXT_TOKENS, writeRandomBundle } from "./random-model.js";
import { printReport } from "./report.js";

/** Text tokens before an image. */
const PROMPT = 32;
/** Rows of image tokens at 256, 512 and 1024 pixels. */
const SIDES = [16, 32, 64];
const WEIGHTS: readonly WeightType[] = ["fp32", "fp16", "int8", "int4"];
/** Positions at which weight types are compared on random weights. */
const COMPARED = 8;

/** One weight type. */
export interface WeightReport {
  readonly weights: WeightType;
  readonly cost: TransformerCost;
  readonly decoder: readonly DecoderTime[];
  /** From fp32; left out for fp32 itself, and in a quick run. */
  readonly distance?: WeightDistance;
}

/** All that is measured. */
export interface SimplearReport {
  readonly threads: number;
  /** Bytes a second. */
  readonly bandwidth: number;
  readonly promptLength: number;
  readonly sides: readonly number[];
  readonly weights: readonly WeightReport[];
  readonly peers: readonly PeerOutcome[];
}

const HELP = `npm run bench -- simplear [--quick] [--threads N] [--peers DIR]

Random weights of SimpleAR 0.5B and Cosmos DV8x16x16: what each weight type costs, beside what the memory's speed allows and
beside other engines on the same shapes, in one run.

  --quick      256 pixels, int8 and a few steps: a minute or two instead of half an hour
  --threads N  default: all cores
  --peers DIR  where other engines are installed, each of them optional; default: the working folder.
               npm i --ignore-scripts --prefix DIR node-llama-cpp @huggingface/transformers
               Hugging Face transformers runs where python3, or what TESSERA_PYTHON names, has torch and transformers.

Needs 5 GB below $XDG_CACHE_HOME/tessera, by default ~/.cache/tessera, and cleans up after itself.
`;

/**
 * What a published size costs on this machine: random weights of the 0.5B transformer and the DV8x16x16 decoder in every
 * weight type, beside what the memory's speed allows and beside other engines on the same shapes, all in one run.
 */
export async function simplear(args: readonly string[], { signal }: { readonly signal: AbortSignal }): Promise<void> {
  const { values } = parseFlags({
    args: [...args], strict: true, allowPositionals: true, options: {
      quick: { type: "boolean", default: false }, threads: { type: "string" }, peers: { type: "string", default: "." },
      help: { type: "boolean" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const threads = integerFlag("--threads", values.threads, { min: 1, max: 256 }) ?? availableParallelism();
  const sides = values.quick ? SIDES.slice(0, 1) : SIDES;
  const load = { threads, steps: values.quick ? 4 : 12, pasts: [PROMPT, ...sides.map((side) => PROMPT + side ** 2)] };
  await mkdir(cacheFolder(), { recursive: true });
  const scratch = await mkdtemp(join(cacheFolder(), "bench-"));
  try {
    const bandwidth = await memoryBandwidth(threads);
    const weights = await measureWeights(scratch, values.quick ? ["int8"] : WEIGHTS, sides, load, signal);
    const peers = await measurePeers(scratch, values.peers, load, signal);
    printReport({ threads, bandwidth, promptLength: PROMPT, sides, weights, peers });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function measureWeights(
  scratch: string, types: readonly WeightType[], sides: readonly number[], load: PeerLoad, signal: AbortSignal,
): Promise<readonly WeightReport[]> {
  const reports: WeightReport[] = [];
  let reference: TokenBundle | undefined;
  for (const weights of types) {
    signal.throwIfAborted();
    progress(`${weights}: converting and measuring`);
    const bundle = await writeRandomBundle(join(scratch, weights), weights);
    const cost = await measureTransformer(bundle.folder, { ...load, promptLength: PROMPT });
    const decoder = [];
    for (const side of sides) decoder.push(await measureDecoder(bundle.folder, side, load.threads));
    const distance = reference === undefined ? {} : { distance: await distanceFrom(reference, bundle) };
    reports.push({ weights, cost, decoder, ...distance });
    if (weights === "fp32") reference = bundle;
    else await rm(bundle.folder, { recursive: true });
  }
  if (reference !== undefined) await rm(reference.folder, { recursive: true });
  return reports;
}

async function distanceFrom(reference: TokenBundle, bundle: TokenBundle): Promise<WeightDistance> {
  const open = ({ manifest, path }: TokenBundle): Promise<TransformerRunner> =>
    TransformerRunner.open(path(manifest.transformer.file), manifest.transformer);
  const [first, second] = [await open(reference), await open(bundle)];
  try {
    const prompt = (start: number, length: number): readonly number[] =>
      Array.from({ length }, (_, index) => ((start + index) * 7919) % TEXT_TOKENS);
    return await weightDistance(first, second, {
      prompts: [[prompt(1, PROMPT), prompt(1000, PROMPT / 2)]], count: COMPARED, tokenOffset: TEXT_TOKENS, guidanceScale: 6,
    });
  } finally {
    await first.close();
    await second.close();
  }
}

async function measurePeers(
  scratch: string, peersFolder: string, load: PeerLoad, signal: AbortSignal,
): Promise<readonly PeerOutcome[]> {
  const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  const outcomes: PeerOutcome[] = [];
  const python = await findPython(["torch", "transformers"]);
  progress("transformers");
  for (const type of ["float32", ...((await hasFastBfloat16()) ? ["bfloat16"] : [])]) {
    const name = `transformers ${type}`;
    if (python === undefined) outcomes.push({ name, missing: "no Python with torch and transformers" });
    else outcomes.push(await runPeer(name, python, [sourceOf("transformers_steps.py"), type, JSON.stringify(load)]));
  }
  signal.throwIfAborted();
  progress("transformers.js");
  await mkdir(join(scratch, "models", "random", "onnx"), { recursive: true });
  await writePublishedModel(join(scratch, "models", "random"));
  const onNode = (name: string, file: string, model: string): Promise<PeerOutcome> =>
    runPeer(name, process.execPath, [script(file), peersFolder, model, JSON.stringify(load)]);
  outcomes.push(await onNode("transformers.js q8", "./transformers-js.js", join(scratch, "models")));
  signal.throwIfAborted();
  progress("llama.cpp");
  const gguf = join(scratch, "random.gguf");
  await writeRandomGguf(gguf);
  outcomes.push(await onNode("llama.cpp Q8_0", "./llama-cpp.js", gguf));
  return outcomes;
}

/** Processors without such instructions emulate them, some fifty times slower. */
async function hasFastBfloat16(): Promise<boolean> {
  return /avx512_bf16|amx_bf16/.test(await readFile("/proc/cpuinfo", "utf8").catch(() => ""));
}

/** A file beside this one that is not compiled. */
function sourceOf(name: string): string {
  return join(dirname(DEFAULT_BUNDLE), "..", "..", "test", "bench", "simplear", name);
}

function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}
