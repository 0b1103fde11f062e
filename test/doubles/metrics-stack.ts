import type { TestContext } from "node:test";
import { freePorts } from "#libs/cli/free-ports.js";
import { SERVICE_NAMES, ServiceProcess, type ServiceName } from "#libs/cli/service-process.js";
import type { Env } from "#libs/config/env.js";
import { connect } from "#libs/rpc/client.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";

const STOP_GRACE_MS = 10_000;

/** Three processes that serve /metrics, each on a port of its own, and a client of the decoder. */
export interface MetricsStack {
  readonly client: ServiceClient<typeof DecoderService>;
  readonly services: readonly ServiceProcess[];
  /** The page of one service. */
  scrape(name: ServiceName): Promise<string>;
}

/** They end with the test. @param env added to the environment of each. */
export async function startMetricsStack(t: TestContext, bundle: string, env: Env = {}): Promise<MetricsStack> {
  const ports = await freePorts(2 * SERVICE_NAMES.length);
  const [tokenizer, generator, decoder] = ports.map((port) => `127.0.0.1:${port}`);
  const metricsPort = (name: ServiceName) => ports[SERVICE_NAMES.length + SERVICE_NAMES.indexOf(name)];
  const services = await Promise.all(SERVICE_NAMES.map((name, index) => ServiceProcess.start(name, {
    env: {
      TESSERA_ADDRESS: `127.0.0.1:${ports[index]}`, TESSERA_TOKENIZER_ADDRESS: tokenizer, TESSERA_GENERATOR_ADDRESS: generator,
      TESSERA_BUNDLE: bundle, TESSERA_LOG_LEVEL: "warn", OTEL_METRICS_EXPORTER: "prometheus",
      OTEL_EXPORTER_PROMETHEUS_PORT: String(metricsPort(name)), ...env,
    },
  })));
  t.after(() => Promise.all(services.map((service) => service.stop(STOP_GRACE_MS))));
  const { client, close } = connect(DecoderService, decoder);
  t.after(close);
  return { client, services, scrape: async (name) => (await fetch(`http://127.0.0.1:${metricsPort(name)}/metrics`)).text() };
}
