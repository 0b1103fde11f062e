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
  /** Image tokens to pixels. */
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
  imageFormat: "tessera.image.format",
  imageBytes: "tessera.image.bytes",
  preview: "tessera.image.preview",
  promptTokens: "tessera.prompt.tokens",
  imageTokens: "tessera.image.tokens",
  queuePosition: "tessera.queue.position",
} as const;

/** Metrics by their name, with their unit and meaning. */
export const METRICS = {
  rpcServerDuration: { name: "rpc.server.duration", unit: "s", description: "Duration of calls answered" },
  rpcClientDuration: { name: "rpc.client.duration", unit: "s", description: "Duration of calls made" },
  queueTime: { name: "tessera.queue.time", unit: "s", description: "Time a request waited for its turn" },
  timeToFirstToken: { name: "tessera.time_to_first_token", unit: "s", description: "Arrival to first image token" },
  timeToImage: { name: "tessera.time_to_image", unit: "s", description: "Arrival to the last byte of an image" },
  detokenizeTime: { name: "tessera.detokenize.time", unit: "s", description: "Image tokens to pixels" },
  encodeTime: { name: "tessera.encode.time", unit: "s", description: "Pixels to a file" },
  imageTokens: { name: "tessera.image_tokens", unit: "{token}", description: "Image tokens drawn" },
  images: { name: "tessera.images", unit: "{image}", description: "Images finished" },
  queueLength: { name: "tessera.queue.length", unit: "{request}", description: "Requests waiting" },
} as const;

/** One of `METRICS`. */
export type Metric = (typeof METRICS)[keyof typeof METRICS];
