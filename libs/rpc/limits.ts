/** Every size and time limit of the wire, each with its reason. Sizes in bytes, times in milliseconds. */

const KIB = 1024;
const MIB = 1024 * KIB;
const SECOND = 1000;
const MINUTE = 60 * SECOND;

/** Largest message either side accepts: gRPC's own default, so that foreign clients see nothing unusual. */
export const MAX_MESSAGE_BYTES = 4 * MIB;

/**
 * Longest message of a status, and as much again for its violations. Both travel in trailers, of which many clients take
 * 8 KiB; above their limit Node and others drop the whole answer, and the call never ends.
 */
export const MAX_STATUS_BYTES = 1 * KIB;

/** Largest part of a picture in one message. Flow control counts messages, and up to 32 of them wait in each hop. */
export const IMAGE_CHUNK_BYTES = 512 * KIB;

/** Most images in one request: the proto's promise, and one request must not hold the service for minutes. */
export const MAX_IMAGE_COUNT = 16;

/** Longest prompt in UTF-8: far above any bundle's text tokens, and small enough to tokenize without a pause. */
export const MAX_PROMPT_BYTES = 16 * KIB;

/** Most text tokens to turn back into text at once: the proto's promise. */
export const MAX_DECODE_TEXT_TOKENS = 65_536;

/** Requests that may wait for the generator: about half a minute of work on a small machine; beyond it, better refuse. */
export const DEFAULT_MAX_QUEUE_LENGTH = 16;

/** How long the generator keeps an image's slot while its latent is awaited: the flow takes seconds, a client that hangs for ever. */
export const LATENT_TIMEOUT_MS = 1 * MINUTE;

/** How long a unary call may take if its caller sets no limit: they answer in milliseconds or not at all. */
export const UNARY_TIMEOUT_MS = 10 * SECOND;

/** How long a streaming call may take if its caller sets no limit: a full queue of large requests on a slow machine. */
export const STREAM_TIMEOUT_MS = 15 * MINUTE;

/** How long a connection may take to be made: a peer that swallows packets is as good as down. */
export const CONNECT_TIMEOUT_MS = 5 * SECOND;

/** First wait before a lost peer is tried again: a restart on the same machine takes about this long. */
export const MIN_RECONNECT_MS = 100;

/** Longest wait before a lost peer is tried again; grpc-js would wait up to two minutes after the peer is back. */
export const MAX_RECONNECT_MS = 2 * SECOND;

/** How often an open connection is probed: below the idle timeouts of common proxies. */
export const KEEPALIVE_TIME_MS = 20 * SECOND;

/** How long a probe may stay unanswered: no service blocks its event loop for so long, so the peer is frozen or gone. */
export const KEEPALIVE_TIMEOUT_MS = 10 * SECOND;

/**
 * How long a connection may last before its client is told to make a new one, open calls apart: only then does a client
 * ask for addresses again, and sees pods that have come since.
 */
export const MAX_CONNECTION_AGE_MS = 5 * MINUTE;

/** How often a service is asked whether it is stuck: that costs nothing, and nobody should be sent to one that is. */
export const STALL_POLL_MS = SECOND / 4;

/** How long open calls may go on after a stop was asked for: within the 45 s that deploy/ grants a pod. */
export const DRAIN_MS = 25 * SECOND;

/**
 * How long a server that drains still answers on its connections, so that whoever asks for its health there hears
 * NOT_SERVING. Then clients are sent elsewhere, open calls apart. Shorter than callers try again for.
 */
export const NOTICE_MS = 200;

/** How long aborted calls may take to clean up and to say why, before their connections are cut. */
export const ABORT_MS = 1 * SECOND;

/**
 * A call cancelled this close to its deadline is taken for timed out: both ends run a timer for the same moment, and
 * the caller's cancellation may arrive first.
 */
export const DEADLINE_SLACK_MS = 20;

/** How often `waitForServing` asks again. */
export const HEALTH_POLL_MS = 50;

/** How long one health question may stay unanswered: every service answers within 50 ms while it computes. */
export const HEALTH_TIMEOUT_MS = 2 * SECOND;
