import { cpus } from "node:os";
import { imageEvents } from "#libs/cli/image-stream.js";
import { startStack, stopStack } from "#libs/cli/stack.js";
import { invariant } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { scrape, sumOf, type Series } from "#test/doubles/scrape.js";
import { EngineLoad } from "./engine-load.js";
import { median, quantile, rounded, table } from "./table.js";
import type { BenchOptions } from "./where-time-goes.js";

const CLIENTS = [1, 4, 16];
const PROMPT = "a dog left of a car";
const STOP_GRACE_MS = 3000;
/** Where `startStack` lets the generator and the decoder show their metrics. */
const METRICS_ADDRESSES = ["127.0.0.1:9465", "127.0.0.1:9466"];
const EDGES = [
  ["decoder", "generator"], ["generator", "decoder"], ["generator", "tokenizer"], ["tokenizer", "generator"],
] as const;

/** What so many clients at once get, each asking for its next image when it has the last one; in milliseconds. */
interface Load {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly imagesPerSecond: number;
}

/** What one image takes over an edge. */
interface EdgeUse {
  readonly from: string;
  readonly to: string;
  readonly messagesPerImage: number;
  readonly bytesPerImage: number;
  readonly messagesPerSecond: number;
}

type Client = ServiceClient<typeof DecoderService>;

/** Latency and throughput through all services, beside the engine alone; what each edge carries; cancel and preview. */
export async function serving({ bundle, rounds, isJson }: BenchOptions): Promise<void> {
  const env = { TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", OTEL_METRICS_EXPORTER: "prometheus", TESSERA_MAX_QUEUE: "64" };
  const engine = await EngineLoad.open(bundle, { threads: 1, maxRunning: Math.max(...CLIENTS) });
  const stack = await startStack({ env });
  const decoder = connect(DecoderService, stack.decoder.address, { caller: "bench" });
  const generator = connect(GeneratorService, stack.generator.address);
  try {
    await servedImage(decoder.client, 0);
    await engine.run({ number: 0, draftWindow: "auto" });
    const loads: { clients: number; served: Load; engine: Load; overhead: number }[] = [];
    let edges: readonly EdgeUse[] = [];
    for (const clients of CLIENTS) {
      const count = Math.max(rounds, 2 * clients);
      const alone = await loadOf(clients, count, async (number) => void await engine.run({ number, draftWindow: "auto" }));
      const before = await scrapeAll();
      const served = await loadOf(clients, count, (number) => servedImage(decoder.client, number));
      edges = edgeUse(before, await scrapeAll(), count, count / served.imagesPerSecond);
      loads.push({ clients, served, engine: alone, overhead: served.p50 / alone.p50 });
    }
    const previewMs = await repeated(rounds, (number) => firstPreview(decoder.client, number));
    const cancelMs = await repeated(rounds, (number) => cancelToFree(decoder.client, generator.client, number));
    const tails = { firstPreviewMs: tailOf(previewMs), cancelToFreeMs: tailOf(cancelMs) };
    report({ model: engine.bundle.manifest.name, rounds, loads, edges, ...tails }, isJson);
  } finally {
    generator.close();
    decoder.close();
    await stopStack(stack, STOP_GRACE_MS);
    await engine.close();
  }
}

const generationOf = (number: number) => ({ prompt: `${PROMPT} ${number}`, seed: BigInt(number) });

async function servedImage(client: Client, number: number): Promise<void> {
  for await (const _ of client.generateImage({ generation: generationOf(number) }));
}

/** Time to the first preview of an image, a preview for each row of tokens being asked for. */
async function firstPreview(client: Client, number: number): Promise<number> {
  const startedAt = performance.now();
  let previewMs = NaN;
  for await (const event of imageEvents(client.generateImage({ generation: generationOf(number), previewIntervalRows: 1 }))) {
    if (event.type === "picture" && event.picture.isPreview && Number.isNaN(previewMs)) previewMs = performance.now() - startedAt;
  }
  return previewMs;
}

/** From a client's cancel in mid-image until the generator reports that nothing runs. */
async function cancelToFree(client: Client, generator: ServiceClient<typeof GeneratorService>, number: number): Promise<number> {
  const cancel = new AbortController();
  let cancelledAt = NaN;
  try {
    for await (const { event } of client.generateImage({ generation: generationOf(number) }, { signal: cancel.signal })) {
      if (event.case !== "progress") continue;
      cancelledAt = performance.now();
      cancel.abort();
    }
  } catch (error) {
    if (!cancel.signal.aborted) throw error;
  }
  while ((await generator.getGeneratorInfo({})).running > 0);
  return performance.now() - cancelledAt;
}

async function repeated(count: number, measure: (number: number) => Promise<number>): Promise<readonly number[]> {
  const values: number[] = [];
  for (let number = 0; number < count; number++) values.push(await measure(number));
  return values;
}

async function loadOf(clients: number, count: number, image: (number: number) => Promise<void>): Promise<Load> {
  const times: number[] = [];
  let next = 1;
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: clients }, async () => {
    while (next <= count) {
      const begin = performance.now();
      await image(next++);
      times.push(performance.now() - begin);
    }
  }));
  const seconds = (performance.now() - startedAt) / 1000;
  return { ...tailOf(times), imagesPerSecond: count / seconds };
}

function tailOf(times: readonly number[]): { readonly p50: number; readonly p95: number; readonly p99: number } {
  return { p50: median(times), p95: quantile(times, 0.95), p99: quantile(times, 0.99) };
}

async function scrapeAll(): Promise<readonly Series[]> {
  return (await Promise.all(METRICS_ADDRESSES.map(scrape))).flat();
}

function edgeUse(before: readonly Series[], after: readonly Series[], images: number, seconds: number): readonly EdgeUse[] {
  return EDGES.map(([from, to]) => {
    const grown = (name: string) => sumOf(after, name, { from, to }) - sumOf(before, name, { from, to });
    const messages = grown("ar_edge_messages_total");
    if (messages === 0) throw invariant(`no message went from ${from} to ${to}: another process may serve ${METRICS_ADDRESSES.join(" or ")}`);
    return {
      from, to, messagesPerImage: messages / images, bytesPerImage: grown("ar_edge_bytes_total") / images, messagesPerSecond: messages / seconds,
    };
  });
}

interface Measured {
  readonly model: string;
  readonly rounds: number;
  readonly loads: readonly { readonly clients: number; readonly served: Load; readonly engine: Load; readonly overhead: number }[];
  readonly edges: readonly EdgeUse[];
  readonly firstPreviewMs: Omit<Load, "imagesPerSecond">;
  readonly cancelToFreeMs: Omit<Load, "imagesPerSecond">;
}

function report(measured: Measured, isJson: boolean): void {
  const { model, loads, edges, firstPreviewMs, cancelToFreeMs } = measured;
  const tail = ({ p50, p95, p99 }: Omit<Load, "imagesPerSecond">) => [p50, p95, p99];
  const text = `${model} on ${cpus().length} x ${cpus()[0]?.model.trim()}, Node ${process.versions.node}, times in ms

${table([
    ["", "p50", "p95", "p99", "images/s", "engine p50", "engine images/s", "times the engine"],
    ...loads.map(({ clients, served, engine, overhead }) => [
      `${clients} clients`, ...tail(served), served.imagesPerSecond, engine.p50, engine.imagesPerSecond, overhead.toFixed(2),
    ]),
    ["first preview", ...tail(firstPreviewMs), "-", "-", "-", "-"],
    ["cancel to free", ...tail(cancelToFreeMs), "-", "-", "-", "-"],
  ])}
${table([
    [`edge, ${CLIENTS.at(-1)} clients`, "messages/image", "bytes/image", "messages/s"],
    ...edges.map((edge) => [`${edge.from} to ${edge.to}`, edge.messagesPerImage, edge.bytesPerImage, edge.messagesPerSecond]),
  ])}
`;
  if (!isJson) process.stdout.write(text);
  process.stdout.write(`${JSON.stringify(rounded({ bench: "serving", ...measured }))}\n`);
}
