import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { stageTokenCount } from "#libs/bundle/stage-manifest.js";
import { invalidRequest, unsupported } from "#libs/errors/errors.js";
import { LATENT_TIMEOUT_MS, MAX_MESSAGE_BYTES } from "#libs/rpc/limits.js";
import type { GeneratorConfig } from "./config.js";
import type { StageLimits } from "./stages/stage-engine.js";

/** A message's other fields take little. */
const MAX_MAP_BYTES = MAX_MESSAGE_BYTES - 1024;

/**
 * What a stage engine may hold: as many images as are allowed and as the memory for keys and values has room for.
 * @throws AppError "invalid-request" when there is no room for one, "unsupported" when a map is larger than a message.
 */
export function stageLimits(
  { transformer, stages }: StageManifest, config: Pick<GeneratorConfig, "maxRunning" | "kvCacheMib" | "maxQueueLength">,
): StageLimits {
  const { layers, keyValueHeads, headSize, textPlaces, tokenMapChannels } = transformer;
  const largest = stages.at(-1)!;
  const mapBytes = 2 * largest.height * largest.width * tokenMapChannels * Float32Array.BYTES_PER_ELEMENT;
  if (mapBytes > MAX_MAP_BYTES) {
    throw unsupported(`a token map of the last stage takes ${mapBytes} bytes with both branches, a message holds ${MAX_MAP_BYTES}`);
  }
  // Nothing comes after the last stage that would look at it.
  const positions = textPlaces + stageTokenCount(stages.slice(0, -1));
  const imageBytes = 2 * 2 * layers * positions * keyValueHeads * headSize * Float32Array.BYTES_PER_ELEMENT;
  const maxRunning = Math.min(config.maxRunning, Math.floor((config.kvCacheMib * 2 ** 20) / imageBytes));
  if (maxRunning === 0) {
    throw invalidRequest("TESSERA_KV_CACHE_MIB", `at least ${Math.ceil(imageBytes / 2 ** 20)}: one image of this bundle`, config.kvCacheMib);
  }
  return { maxRunning, maxWaiting: config.maxQueueLength, latentTimeoutMs: LATENT_TIMEOUT_MS };
}
