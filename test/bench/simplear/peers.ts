import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { findPython } from "#test/parity/reference.js";
import { runPeer, type PeerLoad, type PeerOutcome } from "./peer.js";
import { writePublishedModel } from "./published-graph.js";
import { writeRandomGguf } from "./random-gguf.js";

/** Another engine, and how to time it. */
export interface Peer {
  readonly name: string;
  measure(): Promise<PeerOutcome>;
}

/**
 * The engines that a guided step is compared with, on random weights of the same shapes.
 * @param scratch where their models are written; the caller clears it.
 * @param folder where those of Node are installed.
 * @param prefilled the load for an engine that must compute its past; the others take one that is made up.
 */
export async function peersOf(scratch: string, folder: string, load: PeerLoad, prefilled: PeerLoad): Promise<readonly Peer[]> {
  const python = await findPython(["torch", "transformers"]);
  const ofPython = (type: string): Peer => peer(`transformers ${type}`, async (name) => (python === undefined
    ? { name, missing: "no Python with torch and transformers" }
    : runPeer(name, python, [sourceOf("transformers_steps.py"), type, JSON.stringify(load)])));
  const onNode = (name: string, file: string, model: string, ownLoad: PeerLoad): Promise<PeerOutcome> => {
    const script = fileURLToPath(new URL(file, import.meta.url));
    return runPeer(name, process.execPath, [script, folder, model, JSON.stringify(ownLoad)]);
  };
  return [
    peer("transformers.js q8", async (name) => {
      await mkdir(join(scratch, "models", "random", "onnx"), { recursive: true });
      await writePublishedModel(join(scratch, "models", "random"));
      return onNode(name, "./transformers-js.js", join(scratch, "models"), load);
    }),
    peer("llama.cpp Q8_0", async (name) => {
      await writeRandomGguf(join(scratch, "random.gguf"));
      return onNode(name, "./llama-cpp.js", join(scratch, "random.gguf"), prefilled);
    }),
    ...["float32", ...((await hasFastBfloat16()) ? ["bfloat16"] : [])].map(ofPython),
  ];
}

function peer(name: string, measure: (name: string) => Promise<PeerOutcome>): Peer {
  return { name, measure: () => measure(name) };
}

/** Processors without such instructions emulate them, some fifty times slower. */
async function hasFastBfloat16(): Promise<boolean> {
  return /avx512_bf16|amx_bf16/.test(await readFile("/proc/cpuinfo", "utf8").catch(() => ""));
}

/** A file beside this one that is not compiled. */
function sourceOf(name: string): string {
  return join(dirname(DEFAULT_BUNDLE), "..", "..", "test", "bench", "simplear", name);
}
