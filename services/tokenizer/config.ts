import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { hostPortEnv, pathEnv, type Env } from "#libs/config/env.js";
import { readSecurity, type Security } from "#libs/rpc/security.js";

/** How the tokenizer is set up. */
export interface TokenizerConfig {
  /** `host:port` to listen on. */
  readonly address: string;
  /** `host:port` that answers health in clear text, for probes; undefined for none. */
  readonly healthAddress?: string | undefined;
  readonly security?: Security | undefined;
  readonly bundleFolder: string;
}

/** @throws AppError naming the variable that is malformed. */
export function readTokenizerConfig(env: Env): TokenizerConfig {
  return {
    address: hostPortEnv(env, "TESSERA_ADDRESS", { default: "127.0.0.1:50051" }),
    healthAddress: hostPortEnv(env, "TESSERA_HEALTH_ADDRESS", { default: "" }) || undefined,
    security: readSecurity(env),
    bundleFolder: pathEnv(env, "TESSERA_BUNDLE", { type: "folder", default: DEFAULT_BUNDLE }),
  };
}
