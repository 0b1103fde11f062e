import { ServiceProcess, type ServiceName } from "#libs/cli/service-process.js";
import { connect } from "#libs/rpc/client.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { busiestOf, type GeneratorPair } from "#test/doubles/generator-pair.js";
import { startNameServer } from "#test/doubles/name-server.js";
import { scrape, sumOf } from "#test/doubles/scrape.js";
import type { Host, Network } from "./network.js";

const GENERATORS = "generator.tessera.test";
const STOP_GRACE_MS = 30_000;

/** One host with tokenizer and decoder, and two with a generator each, which the decoder finds by one name. */
export async function startOnHosts({ gateway, hosts }: Network, bundle: string): Promise<GeneratorPair> {
  const [front, ...backs] = hosts;
  const names = await startNameServer(gateway);
  names.set(GENERATORS, backs.map(({ address }) => address));
  names.set("tokenizer.tessera.test", [front.address]);
  const start = (name: ServiceName, { address, launcher }: Host, port: number) => ServiceProcess.start(name, {
    launcher,
    env: {
      TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", TESSERA_ADDRESS: `${address}:${port}`,
      TESSERA_TOKENIZER_ADDRESS: "tokenizer.tessera.test:50051", TESSERA_GENERATOR_ADDRESS: `${GENERATORS}:50052`,
      OTEL_METRICS_EXPORTER: name === "generator" ? "prometheus" : "none", OTEL_EXPORTER_PROMETHEUS_HOST: "0.0.0.0",
      OTEL_EXPORTER_PROMETHEUS_PORT: "9464",
    },
  });
  const tokenizer = await start("tokenizer", front, 50051);
  const generators = await Promise.all(backs.map((back) => start("generator", back, 50052)));
  const decoder = await start("decoder", front, 50053);
  const { client, close } = connect(DecoderService, decoder.address);
  return {
    client,
    generators,
    busiest: () => busiestOf(generators.map(({ address }) => address)),
    imagesOf: async (number) => sumOf(await scrape(`${backs[number].address}:9464`), "ar_images_total"),
    async restart(number) {
      generators[number] = await start("generator", backs[number], 50052);
    },
    async stop() {
      close();
      for (const process of [decoder, ...generators, tokenizer]) await process.stop(STOP_GRACE_MS);
      names.close();
    },
  };
}
