import { existsSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { InferenceSession } from "onnxruntime-node";
import { type AppError, invalidRequest, invariant, notFound, unsupported } from "#libs/errors/errors.js";

/** Where a graph runs. */
export type ExecutionProvider = "cpu" | "cuda";

/** How a graph is loaded. */
export interface SessionOptions {
  /** Threads inside one operator, >= 1; default 1. */
  readonly threads?: number;
  /** Default "cpu". */
  readonly provider?: ExecutionProvider;
  /**
   * Let threads that wait for each other within a run stay awake, which hands work over faster; they sleep between runs. For
   * cores that nobody else needs: elsewhere it takes from the neighbours, and from itself. Default false.
   */
  readonly spin?: boolean;
  /**
   * Leave the weights where they lie in the file, mapped, instead of packing a copy for the processor: loading takes a small
   * part of the time and processes share the memory, but each step reads more slowly. Default false.
   */
  readonly mapWeights?: boolean;
}

const PROVIDERS: readonly string[] = ["cpu", "cuda"] satisfies readonly ExecutionProvider[];

/**
 * Load the ONNX graph at `path`, weights beside it included, with the settings that every graph of ours runs under.
 *
 * `run()` of the returned session blocks its thread, so call this inside a worker thread. The caller releases the session.
 * @throws AppError "not-found" without the file, "unsupported" for a provider that this machine lacks, "invalid-request"
 *   for options out of range, "internal" when ONNX Runtime refuses the graph. Every message about a file names it.
 */
export async function createInferenceSession(path: string, options: SessionOptions = {}): Promise<InferenceSession> {
  const { threads = 1, provider = "cpu" } = options;
  if (!Number.isInteger(threads) || threads < 1) {
    throw invalidRequest("threads", "a whole number >= 1", threads);
  }
  if (!PROVIDERS.includes(provider)) {
    throw invalidRequest("provider", `one of ${PROVIDERS.join(", ")}`, provider);
  }
  if (!existsSync(path)) throw notFound(`graph file ${path} does not exist`);
  forbidTelemetry();
  try {
    return await InferenceSession.create(path, runtimeOptions(options));
  } catch (cause) {
    throw loadError(path, provider, cause);
  }
}

/**
 * ONNX Runtime 1.29 on Linux notes how it is used, keeps a device id below the home directory and sends both to its maker, and
 * crashes where it finds no certificates to do so; a server must not call out unasked. It reads this variable when the first
 * session of a process is created. 0 allows it.
 */
function forbidTelemetry(): void {
  process.env["ORT_DISABLE_TELEMETRY"] ??= "1";
}

/**
 * Whether products of unsigned and signed bytes are summed in 32 bits (VNNI; AMX comes with it). Elsewhere on x86 the kernel
 * sums pairs in 16 bits, where they do not fit. Only Linux tells; other systems are taken not to.
 */
function hasByteProducts(): boolean {
  if (process.arch !== "x64") return true;
  try {
    return /\bavx(512)?_vnni\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return false;
  }
}

/** Asked for once: every session needs it. */
const HAS_BYTE_PRODUCTS = hasByteProducts();

/** The settings of ONNX Runtime that every graph of ours runs under. */
export function runtimeOptions(
  { threads = 1, provider = "cpu", spin = false, mapWeights = false }: SessionOptions,
): InferenceSession.SessionOptions {
  return {
    executionProviders: provider === "cuda" ? ["cuda", "cpu"] : ["cpu"],
    graphOptimizationLevel: "all",
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    extra: {
      session: {
        intra_op: { allow_spinning: spin ? "1" : "0" },
        // A worker that spins between steps starves the neighbours that share its cores.
        force_spinning_stop: "1",
        // Signed weights made unsigned as they are loaded: slower by half and more, and exact.
        ...(!HAS_BYTE_PRODUCTS && { x64quantprecision: "1" }),
        ...(mapWeights && { disable_prepacking: "1" }),
      },
    },
  };
}

function loadError(path: string, provider: ExecutionProvider, cause: unknown): AppError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (provider === "cuda" && reason.includes("ExecutionProvider_Cuda")) {
    return unsupported(`provider cuda cannot be used: its libraries are missing or do not load here (${reason})`);
  }
  return invariant(`graph file ${basename(path)} cannot be loaded: ${reason}`, cause);
}
