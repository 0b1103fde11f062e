import assert from "node:assert/strict";
import { test } from "node:test";
import { INSPECT_HELP, parseInspectOptions } from "./inspect-options.js";

const parse = (line: string): unknown => parseInspectOptions(line.split(" "));

test("every flag reaches its option", () => {
  assert.deepEqual(parse("logits --bundle b --ids i.json --out o.npy --window 7 --threads 2"), {
    what: "logits", bundleFolder: "b", idsFile: "i.json", outFile: "o.npy", window: 7, threads: 2,
  });
  assert.deepEqual(parse("pixels --bundle b --tokens t.json --grid 3x5 --out o.npy"), {
    what: "pixels", bundleFolder: "b", tokensFile: "t.json", outFile: "o.npy", grid: [3, 5], threads: 1,
  });
});

test("--help wins and names every flag", () => {
  assert.equal(parse("--help"), undefined);
  for (const flag of ["bundle", "ids", "tokens", "grid", "out", "window", "threads"]) {
    assert.match(INSPECT_HELP, new RegExp(`--${flag} `));
  }
});

test("a wrong, missing or foreign flag is named", () => {
  const cases = [
    ["", /`what to inspect` must be logits or pixels, got ""/],
    ["weights", /`what to inspect` must be logits or pixels, got "weights"/],
    ["logits --ids i --out o", /`--bundle` must be given/],
    ["logits --bundle b --out o", /`--ids` must be given/],
    ["logits --bundle b --ids i --out o --window 0", /`--window` must be a whole number 1 \.\. 1000000, got "0"/],
    ["logits --bundle b --ids i --out o --grid 2x2", /`--grid` must be left out with logits/],
    ["pixels --bundle b --tokens t --out o", /`--grid` must be given/],
    ["pixels --bundle b --tokens t --out o --grid 2", /`--grid` must be rows x columns such as 64x64, got "2"/],
    ["pixels --bundle b --tokens t --out o --grid 2x2 --window 3", /`--window` must be left out with pixels/],
  ] as const;
  for (const [line, message] of cases) assert.throws(() => parse(line), { kind: "invalid-request", message });
});
