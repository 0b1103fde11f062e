import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { hostPortEnv, pathEnv, type Env } from "#libs/config/env.js";

/** How the tokenizer is set up. */
export interface TokenizerConfig {
  /** `host:port` to listen on. */
  readonly address: string;
  readonly bundleFolder: string;
}

/** @throws AppError naming the variable that is malformed. */
export function readTokenizerConfig(env: Env): TokenizerConfig {
  return {
    address: hostPortEnv(env, "TESSERA_ADDRESS", { default: "127.0.0.1:50051" }),
    bundleFolder: pathEnv(env, "TESSERA_BUNDLE", { type: "folder", default: DEFAULT_BUNDLE }),
  };
}
