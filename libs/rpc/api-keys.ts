import { createHash, timingSafeEqual } from "node:crypto";
import type { Metadata } from "nice-grpc";
import type { Reloading } from "#libs/config/reloading-files.js";
import { AppError, invalidRequest, overloaded } from "#libs/errors/errors.js";
import { count } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS, type RejectionReason } from "#libs/telemetry/names.js";
import { TokenBucket } from "./token-bucket.js";

/** Who may call which services, and how often. The key itself is nowhere: only its hash. */
export interface ApiKey {
  readonly name: string;
  /** SHA-256 of the key, 32 bytes. Enough for keys, which are random and long, unlike passwords. */
  readonly sha256: Buffer;
  /** e.g. `decoder`. */
  readonly services: readonly string[];
  /** 0 for no limit. */
  readonly callsPerMinute: number;
  /** 0 for no limit. */
  readonly concurrentCalls: number;
}

/** A call that was let in; its owner must call `leave` once. */
export interface Admission {
  readonly key: ApiKey;
  leave(): void;
}

/** A key and what is used of its limits. */
interface KeyInUse {
  key: ApiKey;
  bucket: TokenBucket;
  running: number;
}

/** What a key may be called. */
export const KEY_NAME = /^[\w.-]{1,64}$/;

/** The same in words. */
export const KEY_NAME_RULE = "1 .. 64 letters, digits, underscores, dots or dashes";

/** How long to wait before a try for a place that a call in progress holds. */
const BUSY_RETRY_MS = 1000;

/** The keys that a server accepts, with what each of them is using. A change counts for calls to come. */
export class ApiKeys {
  readonly #source: Reloading<readonly ApiKey[]>;
  readonly #now: () => number;
  #known: readonly ApiKey[] = [];
  #keys: readonly KeyInUse[] = [];

  /** @param now a clock in milliseconds. */
  constructor(source: Reloading<readonly ApiKey[]>, now: () => number = () => performance.now()) {
    this.#source = source;
    this.#now = now;
  }

  /**
   * Let a call in.
   * @param service e.g. `decoder`.
   * @throws AppError `unauthenticated` without a known key, `permission-denied` if it does not open this service,
   *   `overloaded` with the time to wait if one of its limits is reached.
   */
  admit(metadata: Metadata, service: string): Admission {
    this.#renew(this.#source.latest);
    const presented = presentedKey(metadata);
    if (presented === undefined) throw refused("unauthenticated", new AppError("unauthenticated", "a key is needed: send `authorization: Bearer KEY`"));
    const entry = this.#find(presented);
    if (entry === undefined) throw refused("unauthenticated", new AppError("unauthenticated", "the key is not known"));
    const { key, bucket } = entry;
    if (!key.services.includes(service)) {
      throw refused("permission-denied", new AppError("permission-denied", `the key ${key.name} does not open the ${service}`));
    }
    if (key.concurrentCalls > 0 && entry.running >= key.concurrentCalls) {
      throw refused("key-concurrency", overloaded(`the key may make ${key.concurrentCalls} calls at once`, BUSY_RETRY_MS));
    }
    const waitMs = bucket.take();
    if (waitMs > 0) throw refused("key-rate", overloaded(`the key may make ${key.callsPerMinute} calls a minute`, waitMs));
    entry.running++;
    return { key, leave: () => void entry.running-- };
  }

  /** What a key is using stays with its name. */
  #renew(keys: readonly ApiKey[]): void {
    if (keys === this.#known) return;
    this.#known = keys;
    const before = new Map(this.#keys.map((entry) => [entry.key.name, entry]));
    this.#keys = keys.map((key) => {
      const bucket = () => new TokenBucket(key.callsPerMinute, 60_000, this.#now);
      const entry = before.get(key.name);
      if (entry === undefined) return { key, bucket: bucket(), running: 0 };
      if (entry.key.callsPerMinute !== key.callsPerMinute) entry.bucket = bucket();
      entry.key = key;
      return entry;
    });
  }

  /** Compares with every key, each in constant time, so that the time taken tells nothing of how near a guess was. */
  #find(presented: string): KeyInUse | undefined {
    const hash = hashOf(presented);
    let found: KeyInUse | undefined;
    for (const entry of this.#keys) if (timingSafeEqual(entry.key.sha256, hash)) found = entry;
    return found;
  }
}

/**
 * The keys of a file's text: `{"keys": [{"name", "sha256", "services", "calls_per_minute"?, "concurrent_calls"?}]}`.
 * @throws AppError `invalid-request` naming the file's entry and rule; never a hash.
 */
export function parseApiKeys(file: string, text: string): readonly ApiKey[] {
  let parsed: { readonly keys?: unknown };
  try {
    parsed = JSON.parse(text);
  } catch {
    // The parser's own words would quote the file.
    throw new AppError("invalid-request", `${file} must hold JSON`);
  }
  if (!Array.isArray(parsed?.keys) || parsed.keys.length === 0) throw invalidRequest("keys", "a list with an entry for each key");
  const keys = parsed.keys.map(parseKey);
  const names = keys.map(({ name }) => name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw invalidRequest("keys", "named differently", twice);
  return keys;
}

/** The hash under which a key stands in the file. */
export function hashOf(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

function parseKey(entry: unknown, index: number): ApiKey {
  const { name, sha256, services, calls_per_minute = 0, concurrent_calls = 0 } = Object(entry) as Record<string, unknown>;
  const at = `keys[${index}]`;
  if (typeof name !== "string" || !KEY_NAME.test(name)) throw invalidRequest(`${at}.name`, KEY_NAME_RULE);
  if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) throw invalidRequest(`${at}.sha256`, "64 lower-case hexadecimal digits");
  if (!Array.isArray(services) || services.length === 0 || !services.every((service) => typeof service === "string")) {
    throw invalidRequest(`${at}.services`, "a list of the services it opens");
  }
  return {
    name, sha256: Buffer.from(sha256, "hex"), services,
    callsPerMinute: limit(`${at}.calls_per_minute`, calls_per_minute),
    concurrentCalls: limit(`${at}.concurrent_calls`, concurrent_calls),
  };
}

function limit(field: string, value: unknown): number {
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 1e6) return value as number;
  throw invalidRequest(field, "a whole number 0 .. 1000000", value);
}

function presentedKey(metadata: Metadata): string | undefined {
  return /^Bearer +(\S+)$/i.exec(metadata.get("authorization") ?? "")?.[1] ?? metadata.get("x-api-key");
}

function refused(reason: RejectionReason, error: AppError): AppError {
  count(METRICS.rejections, 1, { [ATTRIBUTES.reason]: reason });
  return error;
}
