import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { choiceEnv, hostPortEnv, intEnv, pathEnv, type Env } from "#libs/config/env.js";
import type { ExecutionProvider } from "#libs/onnx/create-session.js";
import { readSecurity, type Security } from "#libs/rpc/security.js";

/** How the decoder is set up. */
export interface DecoderConfig {
  /** `host:port` to listen on. */
  readonly address: string;
  /** `host:port` that answers health in clear text, for probes; undefined for none. */
  readonly healthAddress?: string | undefined;
  readonly security?: Security | undefined;
  readonly bundleFolder: string;
  /** `host:port` of the generator. */
  readonly generatorAddress: string;
  /** Threads inside one operator. */
  readonly threads: number;
  readonly provider: ExecutionProvider;
  /** Whether these threads stay awake within a step; default false. */
  readonly spin?: boolean;
}

/** @throws AppError naming the variable that is malformed. */
export function readDecoderConfig(env: Env): DecoderConfig {
  return {
    address: hostPortEnv(env, "TESSERA_ADDRESS", { default: "127.0.0.1:50053" }),
    healthAddress: hostPortEnv(env, "TESSERA_HEALTH_ADDRESS", { default: "" }) || undefined,
    security: readSecurity(env),
    bundleFolder: pathEnv(env, "TESSERA_BUNDLE", { type: "folder", default: DEFAULT_BUNDLE }),
    generatorAddress: hostPortEnv(env, "TESSERA_GENERATOR_ADDRESS", { default: "127.0.0.1:50052" }),
    threads: intEnv(env, "TESSERA_THREADS", { min: 1, max: 256, default: 1 }),
    provider: choiceEnv(env, "TESSERA_PROVIDER", { choices: ["cpu", "cuda"], default: "cpu" }),
    spin: choiceEnv(env, "TESSERA_SPIN", { choices: ["0", "1"], default: "0" }) === "1",
  };
}
