import { freePorts } from "#libs/cli/free-ports.js";
import { ServiceProcess } from "#libs/cli/service-process.js";
import type { Env } from "#libs/config/env.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { startDecoder } from "#services/decoder/start.js";
import { scrape, sumOf } from "#test/doubles/scrape.js";

/** Two generators as processes, which can be killed, behind one decoder in this process. */
export interface GeneratorPair {
  readonly client: ServiceClient<typeof DecoderService>;
  /** The processes as they are now. */
  readonly generators: readonly ServiceProcess[];
  /** The number of the generator that works on the most images. */
  busiest(): Promise<number>;
  /** Images that a generator has completed since it was started. */
  imagesOf(number: number): Promise<number>;
  /** Start a generator that has ended again, where it was. */
  restart(number: number): Promise<void>;
  stop(): Promise<void>;
}

const STOP_GRACE_MS = 30_000;

/** @param env for the generators. */
export async function startGeneratorPair(bundle: string, env: Env = {}): Promise<GeneratorPair> {
  const shared = { TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", ...env };
  const [tokenizerPort, ...ports] = await freePorts(5);
  const tokenizerAddress = `127.0.0.1:${tokenizerPort}`;
  const ownAddresses = ports.slice(0, 2).map((port) => `127.0.0.1:${port}`);
  const metricsPorts = ports.slice(2);
  const startGenerator = (address: string, number: number) => ServiceProcess.start("generator", {
    env: {
      ...shared, TESSERA_ADDRESS: address, TESSERA_TOKENIZER_ADDRESS: tokenizerAddress,
      OTEL_METRICS_EXPORTER: "prometheus", OTEL_EXPORTER_PROMETHEUS_PORT: String(metricsPorts[number]),
    },
  });
  const tokenizer = await ServiceProcess.start("tokenizer", { env: { ...shared, TESSERA_ADDRESS: tokenizerAddress } });
  const generators = await Promise.all(ownAddresses.map(startGenerator));
  const decoder = await startDecoder({
    address: "127.0.0.1:0", bundleFolder: bundle, threads: 1, provider: "cpu",
    // As a headless service's name resolves: one target, several addresses.
    generatorAddress: `ipv4:${ownAddresses.join(",")}`,
  });
  const { client, close } = connect(DecoderService, decoder.address);
  return {
    client,
    generators,
    busiest: () => busiestOf(ownAddresses),
    imagesOf: async (number) => sumOf(await scrape(`127.0.0.1:${metricsPorts[number]}`), "ar_images_total"),
    async restart(number) {
      generators[number] = await startGenerator(ownAddresses[number], number);
    },
    async stop() {
      close();
      await decoder.stop(0);
      for (const process of [...generators, tokenizer]) await process.stop(STOP_GRACE_MS);
    },
  };
}

/** The number of the generator that works on the most images. */
export async function busiestOf(addresses: readonly string[]): Promise<number> {
  const running = await Promise.all(addresses.map(runningAt));
  return running.indexOf(Math.max(...running));
}

/** Over a connection of its own: one that has seen its peer die waits before it looks again. */
async function runningAt(address: string): Promise<number> {
  const { client, close } = connect(GeneratorService, address);
  try {
    return (await client.getGeneratorInfo({})).running;
  } finally {
    close();
  }
}
