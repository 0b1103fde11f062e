import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { Tensor } from "onnxruntime-node";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { invariant } from "#libs/errors/errors.js";
import { createInferenceSession } from "#libs/onnx/create-session.js";

/** What it takes to turn one grid of image tokens into pixels. */
export interface DecoderTime {
  /** Rows and columns of image tokens: the image is square. */
  readonly side: number;
  readonly loadMs: number;
  readonly ms: number;
  /** Most memory there ever was. */
  readonly peakBytes: number;
}

/** Load the decoder of the bundle in `folder` and run it once on a square of image tokens, in a process of its own. */
export async function measureDecoder(folder: string, side: number, threads: number): Promise<DecoderTime> {
  const args = [fileURLToPath(import.meta.url), folder, String(side), String(threads)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "exit") as Promise<[number | null]>]);
  if (code !== 0) throw invariant(`measuring the decoder of ${folder} ended with code ${code}`);
  return JSON.parse(output) as DecoderTime;
}

async function measure(folder: string, side: number, threads: number): Promise<DecoderTime> {
  const { manifest, path } = await openTokenBundle(folder, { verify: false });
  const loadStart = performance.now();
  const session = await createInferenceSession(path(manifest.decoder.file), { threads });
  const start = performance.now();
  const tokens = BigInt64Array.from({ length: side * side }, (_, i) => BigInt((i * 7919) % manifest.image.codebookSize));
  await session.run({ tokens: new Tensor("int64", tokens, [1, side, side]) });
  const ms = performance.now() - start;
  return { side, loadMs: start - loadStart, ms, peakBytes: process.resourceUsage().maxRSS * 1024 };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , folder, side, threads] = process.argv;
  process.stdout.write(JSON.stringify(await measure(folder, Number(side), Number(threads))));
}
