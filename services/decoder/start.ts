import { openTokenBundle } from "#libs/bundle/bundle.js";
import { connect } from "#libs/rpc/client.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { startService, type RunningService } from "#libs/rpc/service.js";
import type { DecoderConfig } from "./config.js";
import { Detokenizer } from "./detokenizer.js";
import { decoderService } from "./service.js";

/** Listen, load the decoder graph into its thread, run it once, then serve. The generator need not be up yet. */
export function startDecoder(
  config: DecoderConfig, { signal }: { readonly signal?: AbortSignal } = {},
): Promise<RunningService> {
  return startService({
    address: config.address,
    healthAddress: config.healthAddress,
    security: config.security,
    service: DecoderService,
    ...(signal && { signal }),
    async load({ signal: giveUp }) {
      const bundle = await openTokenBundle(config.bundleFolder, { signal: giveUp });
      const { image, decoder } = bundle.manifest;
      const { threads, provider } = config;
      const detokenizer = await Detokenizer.open({ graphFile: bundle.path(decoder.file), image, threads, provider });
      const generator = connect(GeneratorService, config.generatorAddress, { security: config.security, caller: "decoder" });
      return {
        implementation: decoderService({ bundle, detokenizer, generator: generator.client }),
        ended: detokenizer.ended,
        async close() {
          generator.close();
          await detokenizer.close();
        },
      };
    },
  });
}
