import assert from "node:assert/strict";
import { test } from "node:test";
import { duplicateKey } from "./duplicate-key.js";

test("a key is found twice in one object only, however it is written", () => {
  const cases: readonly (readonly [text: string, key: string | undefined])[] = [
    ['{"a": 1, "b": {"a": 2}, "c": [{"a": 1}, {"a": 2}]}', undefined],
    ['{"a": 1, "a" : 2}', "a"],
    ['{"x": {"b": 1, "c": 2, "b": 3}}', "b"],
    ['{"a": 1, "\\u0061": 2}', "a"],
    ['{"a": "b", "b": "a"}', undefined],
    ['{"a\\"": 1, "a\\\\": 2, "{": 3, "}": "{"}', undefined],
    ['["a", "a", "a:"]', undefined],
    ['{"": 1, "": 1}', ""],
    ["3", undefined],
  ];
  for (const [text, key] of cases) assert.equal(duplicateKey(text), key, text);
});
