import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata } from "nice-grpc";
import { ApiKeys, hashOf, parseApiKeys, type ApiKey } from "./api-keys.js";

const WEB: ApiKey = { name: "web", sha256: hashOf("web-key"), services: ["decoder"], callsPerMinute: 2, concurrentCalls: 0 };
const BATCH: ApiKey = { name: "batch", sha256: hashOf("batch-key"), services: ["decoder", "generator"], callsPerMinute: 0, concurrentCalls: 1 };
const bearer = (key: string) => Metadata({ authorization: `Bearer ${key}` });

test("a known key opens its services, by either header", () => {
  const keys = new ApiKeys({ latest: [WEB, BATCH] });
  assert.equal(keys.admit(bearer("web-key"), "decoder").key.name, "web");
  assert.equal(keys.admit(Metadata({ "x-api-key": "batch-key" }), "generator").key.name, "batch");
});

test("no key, an unknown key and a key for another door are told apart, and none is shown", () => {
  const keys = new ApiKeys({ latest: [WEB] });
  for (const metadata of [Metadata(), bearer("guess"), bearer(""), Metadata({ authorization: "Basic web-key" })]) {
    assert.throws(() => keys.admit(metadata, "decoder"), { kind: "unauthenticated", message: /^(a key is needed|the key is not known)/ });
  }
  assert.throws(() => keys.admit(bearer("guess"), "decoder"), (error: Error) => !error.message.includes("guess"));
  assert.throws(() => keys.admit(bearer("web-key"), "tokenizer"), { kind: "permission-denied", message: "the key web does not open the tokenizer" });
});

test("a key's rate and its calls at once are limited, each key for itself", () => {
  let now = 0;
  const keys = new ApiKeys({ latest: [WEB, BATCH] }, () => now);
  keys.admit(bearer("web-key"), "decoder").leave();
  keys.admit(bearer("web-key"), "decoder").leave();
  assert.throws(() => keys.admit(bearer("web-key"), "decoder"), { kind: "overloaded", retryDelayMs: 30_000 });
  now = 30_000;
  keys.admit(bearer("web-key"), "decoder");

  const running = keys.admit(bearer("batch-key"), "decoder");
  assert.throws(() => keys.admit(bearer("batch-key"), "generator"), { kind: "overloaded", message: /1 calls at once/ });
  running.leave();
  keys.admit(bearer("batch-key"), "generator");
});

test("keys that changed count for the next call, and what a key is using stays with its name", () => {
  const source = { latest: [WEB, BATCH] };
  const keys = new ApiKeys(source, () => 0);
  keys.admit(bearer("web-key"), "decoder");
  keys.admit(bearer("web-key"), "decoder");
  const running = keys.admit(bearer("batch-key"), "generator");
  source.latest = [{ ...WEB, sha256: hashOf("new-key") }, { ...BATCH, callsPerMinute: 9 }];
  assert.throws(() => keys.admit(bearer("web-key"), "decoder"), { kind: "unauthenticated" });
  assert.throws(() => keys.admit(bearer("new-key"), "decoder"), { kind: "overloaded", message: /2 calls a minute/ });
  assert.throws(() => keys.admit(bearer("batch-key"), "generator"), { kind: "overloaded", message: /1 calls at once/ });
  running.leave();
  assert.equal(keys.admit(bearer("batch-key"), "generator").key.callsPerMinute, 9);
  source.latest = [WEB];
  assert.throws(() => keys.admit(bearer("batch-key"), "generator"), { kind: "unauthenticated" });
});

test("a file of keys is read, and what is wrong in it is named", () => {
  const entry = { name: "web", sha256: hashOf("web-key").toString("hex"), services: ["decoder"] };
  const read = (keys: unknown) => parseApiKeys("keys.json", JSON.stringify({ keys }));
  assert.deepEqual(read([{ ...entry, calls_per_minute: 2 }]), [WEB]);
  const wrong: readonly [keys: unknown, message: RegExp][] = [
    [[], /`keys` must be a list/],
    [[{ ...entry, name: "a b" }], /`keys\[0\]\.name`/],
    [[entry, { ...entry, sha256: "web-key" }], /`keys\[1\]\.sha256` must be 64 lower-case hexadecimal digits$/],
    [[{ ...entry, services: [] }], /`keys\[0\]\.services`/],
    [[{ ...entry, concurrent_calls: -1 }], /`keys\[0\]\.concurrent_calls` must be a whole number 0 \.\. 1000000, got -1/],
    [[entry, entry], /`keys` must be named differently, got "web"/],
    [[null], /`keys\[0\]\.name`/],
  ];
  for (const [keys, message] of wrong) assert.throws(() => read(keys), { kind: "invalid-request", message });
  assert.throws(() => parseApiKeys("keys.json", "no"), { kind: "invalid-request", message: "keys.json must hold JSON" });
});
