import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { stageTokenCount } from "#libs/bundle/stage-manifest.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { LATENT_TIMEOUT_MS } from "#libs/rpc/limits.js";
import type { GeneratorConfig } from "./config.js";
import type { StageLimits } from "./stages/stage-engine.js";

/**
 * What a stage engine may hold: as many images as are allowed and as the memory for keys and values has room for.
 * @throws AppError "invalid-request" when there is no room for one.
 */
export function stageLimits(
  { transformer, stages }: StageManifest, config: Pick<GeneratorConfig, "maxRunning" | "kvCacheMib" | "maxQueueLength">,
): StageLimits {
  const { layers, keyValueHeads, headSize, textPlaces } = transformer;
  // Nothing comes after the last stage that would look at it.
  const positions = textPlaces + stageTokenCount(stages.slice(0, -1));
  const imageBytes = 2 * 2 * layers * positions * keyValueHeads * headSize * Float32Array.BYTES_PER_ELEMENT;
  const maxRunning = Math.min(config.maxRunning, Math.floor((config.kvCacheMib * 2 ** 20) / imageBytes));
  if (maxRunning === 0) {
    throw invalidRequest("TESSERA_KV_CACHE_MIB", `at least ${Math.ceil(imageBytes / 2 ** 20)}: one image of this bundle`, config.kvCacheMib);
  }
  return { maxRunning, maxWaiting: config.maxQueueLength, latentTimeoutMs: LATENT_TIMEOUT_MS };
}
