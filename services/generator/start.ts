import { hasTokens, openBundle, type StageBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { startService, type LoadedService, type RunningService } from "#libs/rpc/service.js";
import type { GeneratorConfig } from "./config.js";
import { ThreadEngine } from "./engine/thread-engine.js";
import { engineLimits } from "./engine-limits.js";
import { reportEngine, reportStageEngine } from "./engine-metrics.js";
import { generatorService } from "./service.js";
import { stageLimits } from "./stage-limits.js";
import { stageGeneratorService } from "./stage-service.js";
import { OnnxStageModel } from "./stages/onnx-stage-model.js";
import { StageEngine } from "./stages/stage-engine.js";

type Loaded = LoadedService<(typeof GeneratorService)["method"]>;

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
      const bundle = await openBundle(config.bundleFolder);
      return hasTokens(bundle) ? loadTokens(bundle, config) : loadStages(bundle as StageBundle, config);
    },
  });
}

async function loadTokens(bundle: TokenBundle, config: GeneratorConfig): Promise<Loaded> {
  const { manifest } = bundle;
  const { threads, provider, spin = false, maxQueueLength, stallMs } = config;
  const engine = await ThreadEngine.open({
    graphFile: bundle.path(manifest.transformer.file), manifest, session: { threads, provider, spin },
    limits: engineLimits(manifest, config),
  });
  reportEngine(engine);
  const tokenizer = connectTokenizer(config);
  return {
    implementation: generatorService({ bundle, engine, maxWaiting: maxQueueLength, tokenizer: tokenizer.client }),
    isStalled: () => engine.isStalled(stallMs),
    ended: engine.ended,
    async close() {
      tokenizer.close();
      await engine.close();
    },
  };
}

async function loadStages(bundle: StageBundle, config: GeneratorConfig): Promise<Loaded> {
  const { manifest } = bundle;
  const { threads, provider, spin = false, stallMs } = config;
  const limits = stageLimits(manifest, config);
  const model = await OnnxStageModel.open(bundle.path(manifest.transformer.file), manifest, { threads, provider, spin });
  const engine = new StageEngine(model, limits);
  try {
    await engine.warmUp();
  } catch (error) {
    await model.close();
    throw error;
  }
  reportStageEngine(engine, limits.maxRunning);
  const tokenizer = connectTokenizer(config);
  return {
    implementation: stageGeneratorService({ bundle, engine, limits, tokenizer: tokenizer.client }),
    isStalled: () => engine.isStalled(stallMs),
    ended: model.ended,
    async close() {
      tokenizer.close();
      engine.close();
      await model.close();
    },
  };
}

function connectTokenizer({ tokenizerAddress, security }: GeneratorConfig) {
  return connect(TokenizerService, tokenizerAddress, { security, caller: "generator" });
}
