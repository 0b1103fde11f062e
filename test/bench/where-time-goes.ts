import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { imageEvents } from "#libs/cli/image-stream.js";
import { startStack, stopStack } from "#libs/cli/stack.js";
import { invariant } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService, type ImageFinished } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { tokenDigest } from "#services/decoder/token-grid.js";
import { OneProcess, type Phases } from "./one-process.js";
import { median, rounded, table } from "./table.js";

const PROMPT = "three red apples on a blue background";

/** Prompts that differ, so that no prompt finds itself in the engine's cache. */
const promptOf = (seed: bigint) => `${PROMPT} ${seed}`;

const PHASES = ["tokenizeMs", "queueMs", "prefillMs", "decodeMs", "detokenizeMs", "encodeMs", "transferMs", "wallMs"] as const;
const STOP_GRACE_MS = 3000;

/** How fast a process decodes is partly the luck of its start, by a fifth either way: one start of each tells little. */
const STARTS = 5;

/** One image through three services: `transferMs` is what none of the other phases accounts for. */
type ServedPhases = Readonly<Record<(typeof PHASES)[number], number>>;

/** What the bench is asked for. */
export interface BenchOptions {
  readonly bundle: string;
  /** Images, or pairs of images, that are measured. */
  readonly rounds: number;
  /** Print the line of JSON alone. */
  readonly isJson: boolean;
  /** The folder of a second model to compare with. */
  readonly against?: string;
  /** Guidance scale; left out: the bundle's. */
  readonly guidance?: number;
}

/**
 * Where the time goes from a prompt to a PNG: cold start, first image, further images by phase, and how much longer the
 * way through three services takes than the same work in one process. Both ways take turns in one run, so that what else
 * the machine does meets both alike, and both are started anew several times.
 */
export async function whereTimeGoes({ bundle, rounds }: BenchOptions): Promise<void> {
  const { manifest: { name, image } } = await openTokenBundle(bundle);
  const commandMs = await coldCommand(bundle);
  const starts: Start[] = [];
  while (starts.length < STARTS) starts.push(await measuredStart(bundle, rounds));
  report({ model: name, decodedTokens: image.gridHeight * image.gridWidth - 1, commandMs, starts });
}

/** Both ways started anew, and the images that they made. */
interface Start {
  readonly startMs: number;
  readonly firstImageMs: number;
  readonly served: readonly ServedPhases[];
  readonly local: readonly Phases[];
}

async function measuredStart(bundle: string, rounds: number): Promise<Start> {
  const startedAt = performance.now();
  const stack = await startStack({ env: { TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn" } });
  const startMs = performance.now() - startedAt;
  const { client, close } = connect(DecoderService, stack.decoder.address);
  const local = await OneProcess.open(bundle);
  try {
    const first = await servedImage(client, 1n);
    await local.image(promptOf(1n), 1n);
    return { startMs, firstImageMs: first.phases.wallMs, ...await comparedImages(client, local, rounds) };
  } finally {
    await local.close();
    close();
    await stopStack(stack, STOP_GRACE_MS);
  }
}

/** From the command to its end, services started and stopped, in milliseconds. */
async function coldCommand(bundle: string): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "tessera-bench-"));
  const main = fileURLToPath(new URL("../../libs/cli/generate.js", import.meta.url));
  const startedAt = performance.now();
  try {
    const child = spawn(process.execPath, [main, PROMPT, "--bundle", bundle, "--out", join(folder, "image.png")], {
      stdio: "ignore",
    });
    const [code] = await once(child, "exit") as [number | null];
    if (code !== 0) throw invariant(`generate ended with exit code ${code}`);
    return performance.now() - startedAt;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function servedImage(
  client: ServiceClient<typeof DecoderService>, seed: bigint,
): Promise<{ readonly finished: ImageFinished; readonly phases: ServedPhases }> {
  const startedAt = performance.now();
  let finished: ImageFinished | undefined;
  for await (const event of imageEvents(client.generateImage({ generation: { prompt: promptOf(seed), seed } }))) {
    if (event.type === "finished") finished = event.finished;
  }
  const wallMs = performance.now() - startedAt;
  if (finished?.timings?.generation === undefined) throw invariant("the decoder sent no timings");
  const { detokenizeMs, encodeMs, generation: { tokenizeMs, queueMs, prefillMs, decodeMs } } = finished.timings;
  const known = tokenizeMs + queueMs + prefillMs + decodeMs + detokenizeMs + encodeMs;
  const phases = { tokenizeMs, queueMs, prefillMs, decodeMs, detokenizeMs, encodeMs, transferMs: wallMs - known, wallMs };
  return { finished, phases };
}

/** The same images both ways, in turns. @throws AppError if they differ: then there is nothing to compare. */
async function comparedImages(
  client: ServiceClient<typeof DecoderService>, local: OneProcess, rounds: number,
): Promise<Pick<Start, "served" | "local">> {
  const served: ServedPhases[] = [];
  const own: Phases[] = [];
  for (let round = 0; round < rounds; round++) {
    const seed = BigInt(round + 2);
    // Who goes first changes, lest one of them always finds the caches warm.
    const early = round % 2 === 0 ? await local.image(promptOf(seed), seed) : undefined;
    const { finished, phases } = await servedImage(client, seed);
    const image = early ?? await local.image(promptOf(seed), seed);
    if (tokenDigest(image.tokens) !== finished.tokenDigest) throw invariant(`seed ${seed} gave different tokens in one process`);
    served.push(phases);
    own.push(image.phases);
  }
  return { served, local: own };
}

function report({ model, decodedTokens, commandMs, starts }: {
  readonly model: string; readonly decodedTokens: number; readonly commandMs: number; readonly starts: readonly Start[];
}): void {
  const served = starts.flatMap((start) => start.served);
  const servedMs = mediansOf(served);
  const localMs = mediansOf(starts.flatMap((start) => start.local));
  const startMs = median(starts.map((start) => start.startMs));
  const firstImageMs = median(starts.map((start) => start.firstImageMs));
  const ratios = starts.map((start) => median(start.served.map(({ wallMs }, round) => wallMs / start.local[round].wallMs)));
  const ratio = median(ratios);
  const tokensPerSecond = (1000 * decodedTokens) / servedMs.decodeMs;
  process.stdout.write(`${model} on ${cpus().length} x ${cpus()[0]?.model.trim()}, Node ${process.versions.node}, \
medians of ${served.length} images in ${starts.length} starts, in ms

${table([
    ["", "ms"], ["command, start to end", commandMs], ["services, start to serving", startMs],
    ["first image", firstImageMs], ["further images", servedMs.wallMs],
  ])}
${table([
    ["phase", "three services", "one process"],
    ...PHASES.map((phase) => [phase.slice(0, -2), servedMs[phase], localMs[phase as keyof Phases] ?? "-"]),
  ])}
${tokensPerSecond.toFixed(0)} guided tokens a second; three services take ${ratio.toFixed(3)} times as long as one process, \
by start ${ratios.map((one) => one.toFixed(2)).join(", ")}
`);
  process.stdout.write(`${JSON.stringify(rounded({
    bench: "main", model, images: served.length, commandMs, startMs, firstImageMs, imageMs: servedMs.wallMs,
    tokensPerSecond, ratio, ratios, servedMs, localMs,
  }))}\n`);
}

function mediansOf<T extends object>(all: readonly T[]): T {
  const keys = Object.keys(all[0]) as (keyof T)[];
  return Object.fromEntries(keys.map((key) => [key, median(all.map((one) => Number(one[key])))])) as T;
}
