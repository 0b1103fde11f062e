import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { choiceEnv, hostPortEnv, intEnv, pathEnv, type Env } from "#libs/config/env.js";
import type { ExecutionProvider } from "#libs/onnx/create-session.js";

/** How the decoder is set up. */
export interface DecoderConfig {
  /** `host:port` to listen on. */
  readonly address: string;
  readonly bundleFolder: string;
  /** `host:port` of the generator. */
  readonly generatorAddress: string;
  /** Threads inside one operator. */
  readonly threads: number;
  readonly provider: ExecutionProvider;
}

/** @throws AppError naming the variable that is malformed. */
export function readDecoderConfig(env: Env): DecoderConfig {
  return {
    address: hostPortEnv(env, "TESSERA_ADDRESS", { default: "127.0.0.1:50053" }),
    bundleFolder: pathEnv(env, "TESSERA_BUNDLE", { type: "folder", default: DEFAULT_BUNDLE }),
    generatorAddress: hostPortEnv(env, "TESSERA_GENERATOR_ADDRESS", { default: "127.0.0.1:50052" }),
    threads: intEnv(env, "TESSERA_THREADS", { min: 1, max: 256, default: 1 }),
    provider: choiceEnv(env, "TESSERA_PROVIDER", { choices: ["cpu", "cuda"], default: "cpu" }),
  };
}
