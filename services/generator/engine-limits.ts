import type { TokenManifest } from "#libs/bundle/manifest.js";
import { invalidRequest } from "#libs/errors/errors.js";
import type { GeneratorConfig } from "./config.js";
import type { EngineLimits } from "./engine/engine.js";
import { KvCache } from "./engine/kv-cache.js";
import { layoutOf } from "./engine/onnx-model.js";

/**
 * What an engine may hold: as many guided images as are allowed and as the memory for the KV cache has room for.
 * @throws AppError "invalid-request" when there is no room for one.
 */
export function engineLimits(
  manifest: TokenManifest, config: Pick<GeneratorConfig, "maxRunning" | "kvCacheMib" | "maxQueueLength">,
): EngineLimits {
  const layout = layoutOf(manifest);
  const maxRowPositions = Math.min(layout.maxPositions, manifest.text.maxPromptTokens + layout.imageTokenCount - 1);
  const pairBytes = 2 * KvCache.rowBytes(layout, maxRowPositions);
  const pairs = Math.min(config.maxRunning, Math.floor((config.kvCacheMib * 2 ** 20) / pairBytes));
  if (pairs === 0) {
    throw invalidRequest("TESSERA_KV_CACHE_MIB", `at least ${Math.ceil(pairBytes / 2 ** 20)}: one image of this bundle`, config.kvCacheMib);
  }
  return { maxRows: 2 * pairs, maxRowPositions, maxWaiting: config.maxQueueLength };
}
