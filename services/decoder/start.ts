import { hasTokens, openBundle, type StageBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { connect } from "#libs/rpc/client.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { startService, type LoadedService, type RunningService } from "#libs/rpc/service.js";
import type { DecoderConfig } from "./config.js";
import { Detokenizer } from "./detokenizer.js";
import { FlowHead } from "./flow-head.js";
import { LatentDetokenizer } from "./latent-detokenizer.js";
import { decoderService } from "./service.js";
import { stageDecoderService } from "./stage-service.js";

type Loaded = LoadedService<(typeof DecoderService)["method"]>;

/** Listen, load the bundle's graphs into their threads, run them once, then serve. The generator need not be up yet. */
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
      const bundle = await openBundle(config.bundleFolder, { signal: giveUp });
      return hasTokens(bundle) ? loadTokens(bundle, config) : loadStages(bundle as StageBundle, config);
    },
  });
}

async function loadTokens(bundle: TokenBundle, config: DecoderConfig): Promise<Loaded> {
  const { image, decoder } = bundle.manifest;
  const { threads, provider, spin = false } = config;
  const detokenizer = await Detokenizer.open({ graphFile: bundle.path(decoder.file), image, threads, provider, spin });
  const generator = connectGenerator(config);
  return {
    implementation: decoderService({ bundle, detokenizer, generator: generator.client }),
    ended: detokenizer.ended,
    async close() {
      generator.close();
      await detokenizer.close();
    },
  };
}

/** The flow and the last decoding have a thread each: one image's pixels never hold up another's stages. */
async function loadStages(bundle: StageBundle, config: DecoderConfig): Promise<Loaded> {
  const { manifest, path } = bundle;
  const { threads, provider, spin = false } = config;
  const detokenizer = await LatentDetokenizer.open(path(manifest.decoder.file), manifest, { threads, provider, spin });
  let flowHead: FlowHead;
  try {
    flowHead = await FlowHead.open(path(manifest.flowHead.file), manifest, { threads, provider, spin });
  } catch (error) {
    await detokenizer.close();
    throw error;
  }
  const generator = connectGenerator(config);
  return {
    implementation: stageDecoderService({ bundle, flowHead, detokenizer, generator: generator.client }),
    ended: Promise.race([detokenizer.ended, flowHead.ended]),
    async close() {
      generator.close();
      await Promise.all([detokenizer.close(), flowHead.close()]);
    },
  };
}

function connectGenerator({ generatorAddress, security }: DecoderConfig) {
  return connect(GeneratorService, generatorAddress, { security, caller: "decoder" });
}
