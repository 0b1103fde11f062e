import assert from "node:assert/strict";
import { test } from "node:test";
import { choiceEnv, hostPortEnv, intEnv, pathEnv, stringEnv } from "./env.js";

const THREADS = { min: 1, max: 64, default: 2 };

test("a variable that is absent or empty takes the default", () => {
  assert.equal(stringEnv({}, "NAME", { default: "x" }), "x");
  assert.equal(stringEnv({ NAME: "y" }, "NAME", { default: "x" }), "y");
  assert.equal(intEnv({ THREADS: "" }, "THREADS", THREADS), 2);
  assert.equal(pathEnv({}, "FOLDER", { type: "folder", default: "/nowhere" }), "/nowhere");
  assert.equal(hostPortEnv({}, "ADDRESS", { default: "127.0.0.1:50051" }), "127.0.0.1:50051");
  assert.equal(choiceEnv({}, "LEVEL", { choices: ["info", "warn"], default: "warn" }), "warn");
});

test("a whole number is read within its range and refused outside", () => {
  assert.equal(intEnv({ THREADS: "64" }, "THREADS", THREADS), 64);
  for (const text of ["0", "65", "4.5", "four", "0x10", "1e1", " 4", "99999999999999999999"]) {
    assert.throws(() => intEnv({ THREADS: text }, "THREADS", THREADS), {
      kind: "invalid-request", message: `THREADS must be a whole number 1 .. 64, got ${JSON.stringify(text)}`,
    });
  }
});

test("an address needs a host and a port", () => {
  for (const text of ["127.0.0.1:0", "tokenizer:50051", "my-host.local:65535", "[::1]:80"]) {
    assert.equal(hostPortEnv({ ADDRESS: text }, "ADDRESS", { default: "" }), text);
  }
  for (const text of ["localhost", ":80", "host:65536", "host:", "http://host:80", "a b:80"]) {
    assert.throws(() => hostPortEnv({ ADDRESS: text }, "ADDRESS", { default: "" }), /^AppError: ADDRESS must be host:port/);
  }
});

test("a path must exist and be of its type", () => {
  assert.equal(pathEnv({ FOLDER: "/" }, "FOLDER", { type: "folder", default: "" }), "/");
  assert.throws(() => pathEnv({ FOLDER: "/no/such" }, "FOLDER", { type: "folder", default: "" }), /existing folder/);
  assert.throws(() => pathEnv({ FILE: "/" }, "FILE", { type: "file", default: "" }), /existing file/);
});

test("a word must be one of its choices", () => {
  const options = { choices: ["info", "warn"], default: "warn" } as const;
  assert.equal(choiceEnv({ LEVEL: "info" }, "LEVEL", options), "info");
  assert.throws(() => choiceEnv({ LEVEL: "loud" }, "LEVEL", options), /LEVEL must be one of info, warn, got "loud"/);
});
