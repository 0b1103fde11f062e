import { openTokenBundle } from "#libs/bundle/bundle.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { startService, type RunningService } from "#libs/rpc/service.js";
import type { GeneratorConfig } from "./config.js";
import { ThreadEngine } from "./engine/thread-engine.js";
import { reportEngine } from "./engine-metrics.js";
import { engineLimits } from "./engine-limits.js";
import { generatorService } from "./service.js";

/** Listen, load the transformer into its thread, warm it up, then serve. */
export function startGenerator(
  config: GeneratorConfig, { signal }: { readonly signal?: AbortSignal } = {},
): Promise<RunningService> {
  return startService({
    address: config.address,
    healthAddress: config.healthAddress,
    security: config.security,
    service: GeneratorService,
    ...(signal && { signal }),
    async load() {
      const bundle = await openTokenBundle(config.bundleFolder);
      const { manifest } = bundle;
      const { threads, provider, maxQueueLength, stallMs } = config;
      const engine = await ThreadEngine.open({
        graphFile: bundle.path(manifest.transformer.file), manifest, session: { threads, provider },
        limits: engineLimits(manifest, config),
      });
      reportEngine(engine);
      const tokenizer = connect(TokenizerService, config.tokenizerAddress, { security: config.security, caller: "generator" });
      return {
        implementation: generatorService({ bundle, engine, maxWaiting: maxQueueLength, tokenizer: tokenizer.client }),
        isStalled: () => engine.isStalled(stallMs),
        ended: engine.ended,
        async close() {
          tokenizer.close();
          await engine.close();
        },
      };
    },
  });
}
