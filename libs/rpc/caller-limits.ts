import type { ApiKey } from "./api-keys.js";
import { MAX_MESSAGE_BYTES } from "./limits.js";

/** What one caller may do; the fields of the wire's `CallerLimits`. */
export interface CallerLimits {
  /** Largest message in bytes, in either direction. */
  readonly maxMessageBytes: number;
  readonly keyRequired: boolean;
  /** 0 for no limit. */
  readonly callsPerMinute: number;
  /** 0 for no limit. */
  readonly concurrentCalls: number;
}

/** The limits of a caller that came in with a key, or without one where none is needed. */
export function callerLimits(key: ApiKey | undefined): CallerLimits {
  const { callsPerMinute = 0, concurrentCalls = 0 } = key ?? {};
  return { maxMessageBytes: MAX_MESSAGE_BYTES, keyRequired: key !== undefined, callsPerMinute, concurrentCalls };
}
