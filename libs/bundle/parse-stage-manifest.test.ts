import assert from "node:assert/strict";
import { test } from "node:test";
import { equalStages } from "#libs/flow/schedule.js";
import { parseManifest } from "./parse-manifest.js";
import { stageTokenCount, type StageManifest } from "./stage-manifest.js";

const FILE = { sha256: "0".repeat(64), bytes: 1 };

const VALID: StageManifest = {
  formatVersion: 1, name: "tiny", family: "ecar", licence: "Apache-2.0", provenance: { weights: "random" },
  text: {
    vocabularySize: 300, promptTemplate: "<|t2i|>{prompt}<|soi|>", negativePromptTemplate: "{prompt}", unconditionalPrompt: "<|t2i|>",
    maxPromptTokens: 8, specialTokens: { "<|t2i|>": 299 },
  },
  image: { height: 64, width: 96, gridHeight: 8, gridWidth: 12 },
  latent: { channels: 2, mean: [0.1, -0.1], scale: [1.5, 2] },
  stages: equalStages(3).map((flow, index) => (
    { height: 2 ** (index + 1), width: 3 * 2 ** index, ...flow, steps: 2, guidanceShare: index / 2 }
  )),
  transformer: {
    file: "stages.onnx", weights: "fp16", layers: 2, hiddenSize: 32, heads: 4, keyValueHeads: 2, headSize: 8, textPlaces: 8,
    tokenMapChannels: 16,
  },
  flowHead: { file: "flow.onnx", weights: "fp16" },
  decoder: { file: "decoder.onnx", weights: "fp16" },
  defaults: { guidanceScale: 3 },
  files: { "tokenizer.json": FILE, "stages.onnx": FILE, "flow.onnx": FILE, "decoder.onnx": FILE },
  metrics: { psnr: 27.5 },
};

/** `VALID` with the field at a path set, or removed by `undefined`. */
function withField(path: string, value: unknown): unknown {
  const copy = structuredClone(VALID) as unknown as Record<string, unknown>;
  const names = path.split("/");
  const owner = names.slice(0, -1).reduce((object, name) => object[name] as Record<string, unknown>, copy);
  owner[names.at(-1) ?? ""] = value;
  return JSON.parse(JSON.stringify(copy));
}

const WRONG: readonly (readonly [path: string, value: unknown, message: string | RegExp])[] = [
  ["family", "simplear", "`image.levels` must be a list of whole numbers >= 2, got nothing"],
  ["image/levels", [2], "`image.levels` is not a known field"],
  ["image/gridHeight", 4, "`image.gridHeight` must be the last stage's height, got 4"],
  ["image/gridWidth", 6, "`image.gridWidth` must be the last stage's width, got 6"],
  ["image/height", 65, "`image.height` must be a multiple of image.gridHeight, got 65"],
  ["latent/channels", 3, "`latent.mean` must be 3 numbers, one for each channel, got [0.1,-0.1]"],
  ["latent/mean", ["a", 1], '`latent.mean` must be a list of finite numbers, got ["a",1]'],
  ["latent/scale", [1, 0], "`latent.scale` must be numbers > 0, got [1,0]"],
  ["stages", [], "`stages` must be a list of objects, not empty, got []"],
  ["stages", [3], "`stages[0]` must be an object"],
  ["stages/1/height", 3, "`stages[1].height` must be twice the stage's before, got 3"],
  ["stages/2/width", 13, "`stages[2].width` must be twice the stage's before, got 13"],
  ["stages/0/startNoise", 0.9, "`stages[0].startNoise` must be 1, as the jump leaves it, got 0.9"],
  ["stages/1/startNoise", 0.9, /^model\.json: `stages\[1\]\.startNoise` must be 0\.8\d*, as the jump leaves it, got 0\.9$/],
  ["stages/1/endNoise", 0.85, "`stages[1].endNoise` must be below startNoise, got 0.85"],
  ["stages/2/endNoise", 0.1, "`stages[2].endNoise` must be 0 at the last stage, got 0.1"],
  ["stages/0/startTime", 0.1, "`stages[0].startTime` must be 0, where the stage before ends, got 0.1"],
  ["stages/2/endTime", 0.9, "`stages[2].endTime` must be 1 at the last stage, got 0.9"],
  ["stages/2/steps", 0, "`stages[2].steps` must be a number 1 .. 1000, got 0"],
  ["stages/2/guidanceShare", 1.5, "`stages[2].guidanceShare` must be a number 0 .. 1, got 1.5"],
  ["stages/2/colour", 1, "`stages[2].colour` is not a known field"],
  ["transformer/tokenMapChannels", 0, "`transformer.tokenMapChannels` must be a number >= 1, got 0"],
  ["transformer/textPlaces", 7, "`transformer.textPlaces` must be at least text.maxPromptTokens, got 7"],
  ["transformer/keyValueHeads", 3, "`transformer.keyValueHeads` must be a divisor of transformer.heads, got 3"],
  ["flowHead/file", "other.onnx", "`files.other.onnx` must be listed, got null"],
  ["flowHead", undefined, "`flowHead` must be an object"],
  ["decoder/weights", "int3", '`decoder.weights` must be "fp32" or "fp16" or "int8" or "int4", got "int3"'],
  ["defaults/guidanceScale", 0.5, "`defaults.guidanceScale` must be a number 1 .. 100, got 0.5"],
  ["defaults/temperature", 1, "`defaults.temperature` is not a known field"],
];

test("a valid manifest of stages comes back as it was", () => {
  assert.deepEqual(parseManifest(JSON.parse(JSON.stringify(VALID))), VALID);
  assert.equal(stageTokenCount(VALID.stages), 6 + 24 + 96);
});

for (const [path, value, message] of WRONG) {
  test(`${path} = ${JSON.stringify(value)} is refused`, () => {
    const expected = typeof message === "string" ? `model.json: ${message}` : message;
    assert.throws(() => parseManifest(withField(path, value)), { kind: "mismatch", message: expected });
  });
}
