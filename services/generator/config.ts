import { DEFAULT_BUNDLE } from "#libs/bundle/bundle.js";
import { choiceEnv, hostPortEnv, intEnv, pathEnv, type Env } from "#libs/config/env.js";
import type { ExecutionProvider } from "#libs/onnx/create-session.js";
import { DEFAULT_MAX_QUEUE_LENGTH } from "#libs/rpc/limits.js";
import { readSecurity, type Security } from "#libs/rpc/security.js";

/** How the generator is set up. */
export interface GeneratorConfig {
  /** `host:port` to listen on. */
  readonly address: string;
  /** `host:port` that answers health in clear text, for probes; undefined for none. */
  readonly healthAddress?: string | undefined;
  readonly security?: Security | undefined;
  readonly bundleFolder: string;
  /** `host:port` of the tokenizer. */
  readonly tokenizerAddress: string;
  /** Threads inside one operator. */
  readonly threads: number;
  readonly provider: ExecutionProvider;
  /** Whether these threads stay awake within a step; default false. */
  readonly spin?: boolean;
  /** Requests that may wait for their first image to start. */
  readonly maxQueueLength: number;
  /** Guided images at work at once, if the cache has room for them. */
  readonly maxRunning: number;
  /** Memory for the KV cache, in MiB. */
  readonly kvCacheMib: number;
  /** How long a step may take before the service reports NOT_SERVING, in milliseconds. */
  readonly stallMs: number;
}

/** @throws AppError naming the variable that is malformed. */
export function readGeneratorConfig(env: Env): GeneratorConfig {
  return {
    address: hostPortEnv(env, "TESSERA_ADDRESS", { default: "127.0.0.1:50052" }),
    healthAddress: hostPortEnv(env, "TESSERA_HEALTH_ADDRESS", { default: "" }) || undefined,
    security: readSecurity(env),
    bundleFolder: pathEnv(env, "TESSERA_BUNDLE", { type: "folder", default: DEFAULT_BUNDLE }),
    tokenizerAddress: hostPortEnv(env, "TESSERA_TOKENIZER_ADDRESS", { default: "127.0.0.1:50051" }),
    threads: intEnv(env, "TESSERA_THREADS", { min: 1, max: 256, default: 1 }),
    provider: choiceEnv(env, "TESSERA_PROVIDER", { choices: ["cpu", "cuda"], default: "cpu" }),
    spin: choiceEnv(env, "TESSERA_SPIN", { choices: ["0", "1"], default: "0" }) === "1",
    maxQueueLength: intEnv(env, "TESSERA_MAX_QUEUE", { min: 0, max: 10_000, default: DEFAULT_MAX_QUEUE_LENGTH }),
    maxRunning: intEnv(env, "TESSERA_MAX_RUNNING", { min: 1, max: 1024, default: 16 }),
    kvCacheMib: intEnv(env, "TESSERA_KV_CACHE_MIB", { min: 1, max: 1_048_576, default: 2048 }),
    stallMs: intEnv(env, "TESSERA_STALL_MS", { min: 100, max: 3_600_000, default: 30_000 }),
  };
}
