/** Every name that leaves by telemetry, once. Prompts and pixels have no name here and no place in a span or metric. */

/** The instrumentation scope of all spans and metrics. */
export const SCOPE = "tessera";

/** The steps of a request that get a span each; the spans of calls are named after their method. */
export const SPANS = {
  /** Text to text tokens, in the tokenizer. */
  tokenize: "tokenize",
  /** Waiting for a turn, in the generator. */
  queue: "queue",
  /** The first pass over the prompts of one image. */
  prefill: "prefill",
  /** All decode steps of one image. */
  decode: "decode",
  /** Handing the tokens or bytes of one image to the caller. */
  transfer: "transfer",
  /** One stage of the flow of one image: token maps to a latent, in the decoder. */
  flow: "flow",
  /** Image tokens or a latent to pixels. */
  detokenize: "detokenize",
  /** Pixels to a file. */
  encode: "encode",
} as const;

/** A name of `SPANS`. */
export type SpanName = (typeof SPANS)[keyof typeof SPANS];

/** Attributes of spans and metrics: numbers and short words only. */
export const ATTRIBUTES = {
  rpcSystem: "rpc.system",
  rpcService: "rpc.service",
  rpcMethod: "rpc.method",
  rpcStatusCode: "rpc.grpc.status_code",
  /** An `ErrorKind`. */
  errorType: "error.type",
  imageIndex: "tessera.image.index",
  /** 0 is the coarsest. */
  stage: "tessera.image.stage",
  imageFormat: "tessera.image.format",
  imageBytes: "tessera.image.bytes",
  preview: "tessera.image.preview",
  promptTokens: "tessera.prompt.tokens",
  imageTokens: "tessera.image.tokens",
  queuePosition: "tessera.queue.position",
  /** A `Phase`. */
  phase: "phase",
  /** A graph's file in the bundle, e.g. `decoder.onnx`. */
  graph: "tessera.graph",
  /** A `RejectionReason`. */
  reason: "reason",
  /** The service that sends. */
  from: "from",
  /** The service that receives. */
  to: "to",
} as const;

/** The values of `ATTRIBUTES.phase`. */
export type Phase = "prefill" | "decode";

/** The values of `ATTRIBUTES.reason`: why work was refused before it began. */
export type RejectionReason =
  | "queue-full" | "deadline" | "not-ready" | "unauthenticated" | "permission-denied" | "key-rate" | "key-concurrency";

/** What is known of a metric before anything is measured. */
export interface Metric {
  /** As OpenTelemetry takes it; `prometheusName` tells what Prometheus shows. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly unit: string;
  /** Bounds of a histogram's buckets, in `unit`. */
  readonly buckets?: readonly number[];
  /** The attributes that tell its series apart. */
  readonly attributes?: readonly string[];
  readonly description: string;
}

/** Seconds of one step or token: half a millisecond for a small model up to a large one's prefill on a CPU. */
const STEP = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1, 2.5, 5, 10, 20] as const;

/** Seconds of one call or image: from a small answer to an image of thousands of tokens on a busy CPU, half an hour. */
const CALL = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 300, 600, 1200, 1800,
] as const;

const ROWS = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128] as const;

const RPC = [ATTRIBUTES.rpcSystem, ATTRIBUTES.rpcService, ATTRIBUTES.rpcMethod, ATTRIBUTES.rpcStatusCode] as const;
const EDGE = [ATTRIBUTES.from, ATTRIBUTES.to] as const;

/**
 * Every metric. `gen_ai.server.*` and `rpc.*` follow the semantic conventions of OpenTelemetry; what these lack is
 * named `ar_*`, as Prometheus shows it. A router needs three: `ar_queue_length`, `ar_images_inflight` and
 * `ar_kv_cache_usage_ratio` (Gateway API Inference Extension, proposal 003: queued, running, cache utilisation).
 * @see https://github.com/open-telemetry/semantic-conventions-genai
 */
export const METRICS = {
  rpcServerDuration: { name: "rpc.server.duration", type: "histogram", unit: "s", buckets: CALL, attributes: RPC, description: "Duration of calls answered" },
  rpcClientDuration: { name: "rpc.client.duration", type: "histogram", unit: "s", buckets: CALL, attributes: RPC, description: "Duration of calls made" },

  timeToFirstToken: { name: "gen_ai.server.time_to_first_token", type: "histogram", unit: "s", buckets: CALL, description: "Arrival of a request to its first image token" },
  timePerOutputToken: { name: "gen_ai.server.time_per_output_token", type: "histogram", unit: "s", buckets: STEP, description: "Time per image token after the first, mean over one image" },
  requestDuration: { name: "gen_ai.server.request.duration", type: "histogram", unit: "s", buckets: CALL, attributes: [ATTRIBUTES.errorType], description: "Duration of a Generate call, waiting included" },

  queueLength: { name: "ar_queue_length", type: "gauge", unit: "{image}", description: "Images waiting for a slot" },
  queueTokens: { name: "ar_queue_tokens", type: "gauge", unit: "{token}", description: "Image tokens that the waiting images have still to be drawn" },
  imagesInflight: { name: "ar_images_inflight", type: "gauge", unit: "{image}", description: "Images running: each holds a slot" },
  kvSlotsUsed: { name: "ar_kv_slots_used", type: "gauge", unit: "{slot}", description: "Slots of the KV cache in use, shared prompts included" },
  kvSlotsTotal: { name: "ar_kv_slots_total", type: "gauge", unit: "{slot}", description: "Slots of the KV cache" },
  kvCacheUsage: { name: "ar_kv_cache_usage_ratio", type: "gauge", unit: "1", description: "Share of the KV cache in use, 0 .. 1" },

  queueTime: { name: "ar_queue_seconds", type: "histogram", unit: "s", buckets: CALL, description: "Time an image waited for a slot" },
  batchRows: { name: "ar_batch_rows", type: "histogram", unit: "{row}", buckets: ROWS, description: "Rows in one pass of the model; a guided image has two" },
  stepTime: { name: "ar_step_seconds", type: "histogram", unit: "s", buckets: STEP, attributes: [ATTRIBUTES.phase], description: "Duration of one pass of the model" },
  imageTokens: { name: "ar_image_tokens_total", type: "counter", unit: "{token}", description: "Image tokens drawn" },
  images: { name: "ar_images_total", type: "counter", unit: "{image}", description: "Images whose tokens are complete" },
  specProposedTokens: { name: "ar_spec_proposed_tokens_total", type: "counter", unit: "{token}", description: "Draft tokens that were verified" },
  specAcceptedTokens: { name: "ar_spec_accepted_tokens_total", type: "counter", unit: "{token}", description: "Draft tokens that were accepted" },
  uncondReuseTokens: { name: "ar_cfg_uncond_reuse_tokens_total", type: "counter", unit: "{token}", description: "Prompt tokens of unconditional rows that needed no pass" },
  preemptions: { name: "ar_preemptions_total", type: "counter", unit: "{image}", description: "Images that gave way to more urgent ones" },
  cancelRelease: { name: "ar_cancel_release_seconds", type: "histogram", unit: "s", buckets: STEP, description: "A cancel or passed deadline to the release of the slot" },
  rejections: { name: "ar_rejections_total", type: "counter", unit: "{request}", attributes: [ATTRIBUTES.reason], description: "Requests refused before their work began" },

  timeToFirstPreview: { name: "ar_time_to_first_preview_seconds", type: "histogram", unit: "s", buckets: CALL, description: "Arrival of a request to its first preview" },
  timeToImage: { name: "ar_time_to_image_seconds", type: "histogram", unit: "s", buckets: CALL, description: "Arrival of a request to the last byte of an image" },
  detokenizeTime: { name: "ar_detokenize_seconds", type: "histogram", unit: "s", buckets: CALL, attributes: [ATTRIBUTES.preview], description: "Image tokens to pixels, the wait for the thread included" },
  graphBusy: { name: "ar_graph_busy_seconds_total", type: "counter", unit: "s", attributes: [ATTRIBUTES.graph], description: "Time that the thread of a decoder's or stage generator's graph was at work, waiting left out" },
  encodeTime: { name: "ar_encode_seconds", type: "histogram", unit: "s", buckets: CALL, attributes: [ATTRIBUTES.preview], description: "Pixels to a file" },

  edgeBytes: { name: "ar_edge_bytes_total", type: "counter", unit: "By", attributes: EDGE, description: "Bytes of messages between two services, headers and framing left out" },
  edgeMessages: { name: "ar_edge_messages_total", type: "counter", unit: "{message}", attributes: EDGE, description: "Messages between two services" },
  edgeWait: { name: "ar_edge_wait_seconds", type: "histogram", unit: "s", buckets: CALL, attributes: EDGE, description: "Time that a call's receiver waited for the sender's messages" },
  eventLoopDelay: { name: "ar_event_loop_delay_seconds", type: "gauge", unit: "s", description: "Longest delay of the event loop since the last reading" },
} as const satisfies Readonly<Record<string, Metric>>;

/** A metric of `METRICS` of one type. */
export type MetricOf<T extends Metric["type"]> = Extract<(typeof METRICS)[keyof typeof METRICS], { readonly type: T }>;

/** The name under which Prometheus shows a metric, without the suffixes of a histogram's series. */
export function prometheusName({ name }: Metric): string {
  return name.replaceAll(".", "_");
}
