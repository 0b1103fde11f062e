import { freePorts } from "#libs/cli/free-ports.js";
import { ServiceProcess } from "#libs/cli/service-process.js";
import type { Env } from "#libs/config/env.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { startDecoder } from "#services/decoder/start.js";

/** Two generators as processes, which can be killed, behind one decoder in this process. */
export interface GeneratorPair {
  readonly client: ServiceClient<typeof DecoderService>;
  /** The processes as they are now. */
  readonly generators: readonly ServiceProcess[];
  /** The number of the generator that works on the most images. */
  busiest(): Promise<number>;
  /** Start a generator that has ended again, where it was. */
  restart(number: number): Promise<void>;
  stop(): Promise<void>;
}

const STOP_GRACE_MS = 30_000;

/** @param env for the generators. */
export async function startGeneratorPair(bundle: string, env: Env = {}): Promise<GeneratorPair> {
  const shared = { TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", ...env };
  const addresses = (await freePorts(3)).map((port) => `127.0.0.1:${port}`);
  const [tokenizerAddress, ...ownAddresses] = addresses;
  const startGenerator = (address: string) => ServiceProcess.start("generator", {
    env: { ...shared, TESSERA_ADDRESS: address, TESSERA_TOKENIZER_ADDRESS: tokenizerAddress },
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
    async busiest() {
      const running = await Promise.all(ownAddresses.map(runningAt));
      return running.indexOf(Math.max(...running));
    },
    async restart(number) {
      generators[number] = await startGenerator(ownAddresses[number]);
    },
    async stop() {
      close();
      await decoder.stop(0);
      for (const process of [...generators, tokenizer]) await process.stop(STOP_GRACE_MS);
    },
  };
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
