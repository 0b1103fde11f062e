import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "#libs/errors/errors.js";
import { GENERATE_HELP, parseGenerateOptions } from "./generate-options.js";

test("a prompt alone leaves everything to the bundle", () => {
  assert.deepEqual(parseGenerateOptions(["three red apples"]), {
    prompt: "three red apples", negativePrompt: undefined, seed: undefined, guidanceScale: undefined,
    temperature: undefined, topK: undefined, topP: undefined, repetitionPenalty: undefined, imageCount: 1, priority: undefined, draftWindow: undefined, bundleFolder: undefined, target: undefined, securityEnv: {},
    outFile: undefined, format: "png", previewFolder: undefined, isJson: false,
  });
});

test("every flag reaches its option", () => {
  const line = "apples --seed 18446744073709551615 --guidance 2.5 --temperature 0 --top-k 5 --top-p .9 --repetition-penalty 1.2 --negative blur "
    + "--images 4 --priority high --draft-window 8 --target [::1]:50053 --out a.JPG --previews p --tls-ca ca.crt --json";
  assert.deepEqual(parseGenerateOptions(line.split(" ")), {
    prompt: "apples", negativePrompt: "blur", seed: 2n ** 64n - 1n, guidanceScale: 2.5, temperature: 0, topK: 5, topP: 0.9,
    repetitionPenalty: 1.2, imageCount: 4, priority: "high", draftWindow: 8, bundleFolder: undefined, target: "[::1]:50053", securityEnv: { TESSERA_TLS_CA: "ca.crt" }, outFile: "a.JPG", format: "jpeg",
    previewFolder: "p", isJson: true,
  });
});

test("--help wins and names every flag", () => {
  assert.equal(parseGenerateOptions(["--help"]), undefined);
  for (const flag of ["seed", "guidance", "temperature", "top-k", "top-p", "repetition-penalty", "negative", "images", "priority", "draft-window", "bundle",
    "out", "previews", "target", "tls-ca", "tls-cert", "tls-key", "json"]) {
    assert.match(GENERATE_HELP, new RegExp(`--${flag}\\s`));
  }
});

test("--draft-window auto leaves the choice to the generator", () => {
  assert.equal(parseGenerateOptions(["x", "--draft-window", "auto"])?.draftWindow, undefined);
});

for (const [args, message] of [
  [[], /PROMPT must not be empty/],
  [[" "], /PROMPT must not be empty/],
  [["three", "apples"], /one argument, got 2/],
  [["x", "--sed", "1"], /--sed/],
  [["x", "--seed"], /--seed/],
  [["x", "--seed", "18446744073709551616"], /`--seed` must be a whole number 0 \.\. 18446744073709551615, got/],
  [["x", "--seed", "1.5"], /`--seed` must be/],
  [["x", "--guidance", "0.9"], /`--guidance` must be a number 1 \.\. 100, got "0.9"/],
  [["x", "--temperature", "1e2"], /`--temperature` must be/],
  [["x", "--top-k", "-1"], /--top-k/],
  [["x", "--top-p", "1.01"], /`--top-p` must be/],
  [["x", "--images", "0"], /`--images` must be a whole number 1 \.\. 16, got "0"/],
  [["x", "--images", "17"], /`--images` must be/],
  [["x", "--priority", "urgent"], /`--priority` must be one of low, normal, high, got "urgent"/],
  [["x", "--draft-window", "0"], /`--draft-window` must be a whole number/],
  [["x", "--draft-window", "wide"], /`--draft-window` must be/],
  [["x", "--out", "a.bmp"], /`--out` must be a file that ends in/],
  [["x", "--target", "localhost"], /--target must be host:port/],
  [["x", "--target", "a:1", "--bundle", "b"], /`--bundle` has no meaning/],
] as const) {
  test(`usage error: ${args.join(" ") || "nothing"}`, () => {
    assert.throws(() => parseGenerateOptions(args), (error) => {
      assert.ok(error instanceof AppError);
      assert.equal(error.kind, "invalid-request");
      assert.match(error.message, message);
      return true;
    });
  });
}
