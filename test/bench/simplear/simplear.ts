import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { TokenBundle } from "#libs/bundle/bundle.js";
import type { WeightType } from "#libs/bundle/manifest.js";
import { parseFlags } from "#libs/cli/command.js";
import { integerFlag } from "#libs/cli/flags.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { cacheFolder } from "#test/parity/reference.js";
import { measureDecoder, type DecoderTime } from "../measured-decoder.js";
import { measureTransformer, type TransformerCost } from "../measured-transformer.js";
import { weightDistance, type WeightDistance } from "../weight-distance.js";
import { Journal } from "./journal.js";
import { memoryBandwidth } from "./memory-bandwidth.js";
import type { PeerLoad, PeerOutcome } from "./peer.js";
import { peersOf, type Peer } from "./peers.js";
import { RandomBundles, TEXT_TOKENS } from "./random-model.js";
import { printReport } from "./report.js";

/** Text tokens before an image. */
const PROMPT = 32;
/** Rows of image tokens at 256, 512 and 1024 pixels. */
const SIDES = [16, 32, 64];
/** Without --full no past of 1024 pixels is computed: that takes minutes, on a busy machine a quarter of an hour. */
const PREFILLED_SIDES = SIDES.slice(0, 2);
const WEIGHTS: readonly WeightType[] = ["int8", "fp32", "fp16", "int4"];
/** Steps timed behind each past. */
const STEPS = 10;
/** Positions at which weight types are compared on random weights. */
const COMPARED = 8;

/** One weight type. */
export interface WeightReport {
  readonly weights: WeightType;
  readonly cost: TransformerCost;
  /** From fp32; left out for fp32 itself, and without --full. */
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
  /** Of each side. */
  readonly decoder: readonly DecoderTime[];
  readonly peers: readonly PeerOutcome[];
}

const HELP = `npm run bench -- simplear [--full] [--threads N] [--peers DIR] [--resume]

Random weights of SimpleAR 0.5B and Cosmos DV8x16x16: what a guided step costs, beside what the memory's speed allows and
beside other engines on the same shapes and threads, in one run. A quarter of an hour on an idle core.

  --full       how far each weight type is from fp32, and llama.cpp behind 4096 image tokens, which is the line through less
               without it; half an hour
  --threads N  for everybody; default: all cores
  --peers DIR  where other engines are installed, each of them optional; default: the working folder.
               npm i --ignore-scripts --prefix DIR node-llama-cpp @huggingface/transformers
               Hugging Face transformers runs where python3, or what TESSERA_PYTHON names, has torch and transformers.
  --resume     go on with the last run, if that had the same flags and was cut short

Needs 7 GB below $XDG_CACHE_HOME/tessera, by default ~/.cache/tessera, and cleans up after itself; what was measured stays there
as simplear.jsonl.
`;

/**
 * What a published size costs on this machine: random weights of the 0.5B transformer and the DV8x16x16 decoder, beside
 * what the memory's speed allows and beside other engines on the same shapes, all in one run.
 */
export async function simplear(args: readonly string[], { signal }: { readonly signal: AbortSignal }): Promise<void> {
  const { values } = parseFlags({
    args: [...args], strict: true, allowPositionals: true, options: {
      full: { type: "boolean", default: false }, threads: { type: "string" }, peers: { type: "string", default: "." },
      resume: { type: "boolean", default: false }, help: { type: "boolean" },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const threads = integerFlag("--threads", values.threads, { min: 1, max: 256 }) ?? availableParallelism();
  const loadOf = (sides: readonly number[]): PeerLoad =>
    ({ threads, steps: STEPS, pasts: [0, ...sides].map((side) => PROMPT + side ** 2) });
  const [load, prefilled] = [loadOf(SIDES), loadOf(values.full ? SIDES : PREFILLED_SIDES)];
  await mkdir(cacheFolder(), { recursive: true });
  const journal = await Journal.open(join(cacheFolder(), "simplear.jsonl"), JSON.stringify([load, prefilled, values.peers]), values);
  const scratch = await mkdtemp(join(cacheFolder(), "bench-"));
  const once: Journal["once"] = (name, measure) => {
    signal.throwIfAborted();
    return journal.once(name, measure);
  };
  try {
    const peers = await peersOf(scratch, values.peers, load, prefilled);
    printReport(await measureAll({ load, peers, bundles: new RandomBundles(scratch), withDistance: values.full, once }));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What a run measures, and with what. */
interface Run {
  readonly load: PeerLoad;
  readonly peers: readonly Peer[];
  readonly bundles: RandomBundles;
  readonly withDistance: boolean;
  readonly once: Journal["once"];
}

async function measureAll(run: Run): Promise<SimplearReport> {
  const { load: { threads }, bundles, once } = run;
  const bandwidth = await once("memory", () => memoryBandwidth(threads));
  const weights = [await measureWeights(WEIGHTS[0], run)];
  // Next to what they are compared with, since a machine's speed changes with the hour.
  const peers: PeerOutcome[] = [];
  for (const { name, measure } of run.peers) peers.push(await once(name, measure));
  const decoder: DecoderTime[] = [];
  for (const side of SIDES) {
    decoder.push(await once(`decoder, ${side} x ${side}`, async () => measureDecoder((await bundles.of("int8")).folder, side, threads)));
  }
  for (const type of WEIGHTS.slice(1)) weights.push(await measureWeights(type, run));
  return { threads, bandwidth, promptLength: PROMPT, sides: SIDES, weights, decoder, peers };
}

async function measureWeights(weights: WeightType, { load, bundles, withDistance, once }: Run): Promise<WeightReport> {
  const cost = await once(weights, async () => measureTransformer((await bundles.of(weights)).folder, { ...load, promptLength: PROMPT }));
  if (!withDistance || weights === "fp32") return { weights, cost };
  const distance = await once(`${weights} against fp32`, async () => distanceFrom(await bundles.of("fp32"), await bundles.of(weights)));
  return { weights, cost, distance };
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
