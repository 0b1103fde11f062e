import assert from "node:assert/strict";
import { test } from "node:test";
import type { Manifest } from "./manifest.js";
import { parseManifest } from "./parse-manifest.js";

const FILE = { sha256: "0".repeat(64), bytes: 1 };

const VALID: Manifest = {
  formatVersion: 1, name: "tiny", family: "simplear", licence: "Apache-2.0", provenance: { weights: "random" },
  text: {
    vocabularySize: 300, promptTemplate: "<|t2i|>{prompt}<|soi|>", negativePromptTemplate: "{prompt}", unconditionalPrompt: "<|t2i|>",
    maxPromptTokens: 8, specialTokens: { "<|t2i|>": 299 },
  },
  image: { height: 32, width: 48, gridHeight: 4, gridWidth: 6, levels: [4, 3], codebookSize: 12, tokenOffset: 300 },
  transformer: {
    file: "transformer.onnx", weights: "int8", layers: 2, hiddenSize: 32, heads: 4, keyValueHeads: 2, headSize: 8, maxPositions: 32,
  },
  decoder: { file: "decoder.onnx", weights: "fp16" },
  defaults: { guidanceScale: 3, temperature: 1, topK: 0, topP: 0.9 },
  generationConfig: { repetitionPenalty: 1.1, topK: 20 },
  files: { "tokenizer.json": FILE, "transformer.onnx": FILE, "decoder.onnx": FILE },
  metrics: { psnr: 27.5 },
};

/** `VALID` with the field at a dotted path set, or removed by `undefined`. */
function withField(path: string, value: unknown): unknown {
  const copy = structuredClone(VALID) as unknown as Record<string, unknown>;
  const names = path.split("/");
  const owner = names.slice(0, -1).reduce((object, name) => object[name] as Record<string, unknown>, copy);
  owner[names.at(-1) ?? ""] = value;
  return JSON.parse(JSON.stringify(copy));
}

const WRONG: readonly (readonly [path: string, value: unknown, message: string])[] = [
  ["formatVersion", 2, "`formatVersion` must be 1, got 2"],
  ["name", "", '`name` must be a text that is not empty, got ""'],
  ["name", undefined, "`name` must be a text that is not empty, got nothing"],
  ["family", "gpt", '`family` must be "simplear" or "ecar", got "gpt"'],
  ["licence", 3, "`licence` must be a text that is not empty, got 3"],
  ["provenance", { a: 1 }, '`provenance` must be an object of strings, got {"a":1}'],
  ["colour", "red", "`colour` is not a known field"],
  ["text", [], "`text` must be an object"],
  ["text/vocabularySize", 1.5, "`text.vocabularySize` must be a whole number, got 1.5"],
  ["text/promptTemplate", "no place", '`text.promptTemplate` must be a text that holds {prompt} once, got "no place"'],
  ["text/negativePromptTemplate", "{prompt}{prompt}", '`text.negativePromptTemplate` must be a text that holds {prompt} once, got "{prompt}{prompt}"'],
  ["text/unconditionalPrompt", null, "`text.unconditionalPrompt` must be a text that is not empty, got null"],
  ["text/maxPromptTokens", 0, "`text.maxPromptTokens` must be a number >= 1, got 0"],
  ["text/specialTokens/<|t2i|>", 300, "`text.specialTokens.<|t2i|>` must be a whole number in 0 .. 299, got 300"],
  ["text/colour", 1, "`text.colour` is not a known field"],
  ["image/height", 33, "`image.height` must be a multiple of image.gridHeight, got 33"],
  ["image/width", 0, "`image.width` must be a number >= 1, got 0"],
  ["image/width", 47, "`image.width` must be a multiple of image.gridWidth, got 47"],
  ["image/gridHeight", "4", '`image.gridHeight` must be a number >= 1, got "4"'],
  ["image/levels", [], "`image.levels` must be a list of whole numbers >= 2, got []"],
  ["image/levels", [4, 4], "`image.codebookSize` must be the product of image.levels, got 12"],
  ["image/tokenOffset", 299, "`image.tokenOffset` must be text.vocabularySize, got 299"],
  ["transformer/file", "other.onnx", "`files.other.onnx` must be listed, got null"],
  ["transformer/weights", "int3", '`transformer.weights` must be "fp32" or "fp16" or "int8" or "int4", got "int3"'],
  ["transformer/layers", -1, "`transformer.layers` must be a number >= 1, got -1"],
  ["transformer/keyValueHeads", 3, "`transformer.keyValueHeads` must be a divisor of transformer.heads, got 3"],
  ["transformer/maxPositions", 31, "`transformer.maxPositions` must be at least text.maxPromptTokens plus a whole image, got 31"],
  ["encoder", { file: "encoder.onnx", weights: "fp16" }, "`files.encoder.onnx` must be listed, got null"],
  ["decoder/weights", null, '`decoder.weights` must be "fp32" or "fp16" or "int8" or "int4", got null'],
  ["defaults/guidanceScale", 0.5, "`defaults.guidanceScale` must be a number 1 .. 100, got 0.5"],
  ["defaults/temperature", -1, "`defaults.temperature` must be a number 0 .. 100, got -1"],
  ["defaults/topK", 13, "`defaults.topK` must be at most image.codebookSize, got 13"],
  ["defaults/topP", 0, "`defaults.topP` must be > 0, got 0"],
  ["generationConfig/repetitionPenalty", 0, "`generationConfig.repetitionPenalty` must be a number 0.01 .. 100, got 0"],
  ["generationConfig/colour", 1, "`generationConfig.colour` is not a known field"],
  ["files/..", FILE, '`files...` must be under a plain file name, got ".."'],
  ["files/model.json", FILE, '`files.model.json` must be under a plain file name, got "model.json"'],
  ["files/tokenizer.json", undefined, "`files.tokenizer.json` must be listed, got null"],
  ["files/tokenizer.json/sha256", "F".repeat(64), `\`files.tokenizer.json.sha256\` must be 64 lower-case hexadecimal digits, got "${"F".repeat(64)}"`],
  ["files/tokenizer.json/bytes", -1, "`files.tokenizer.json.bytes` must be a number >= 0, got -1"],
  ["metrics", { psnr: "high" }, '`metrics` must be an object of numbers, got {"psnr":"high"}'],
];

test("a valid manifest comes back as it was", () => {
  assert.deepEqual(parseManifest(JSON.parse(JSON.stringify(VALID))), VALID);
});

for (const [path, value, message] of WRONG) {
  test(`${path} = ${JSON.stringify(value)} is refused`, () => {
    assert.throws(() => parseManifest(withField(path, value)), { kind: "mismatch", message: `model.json: ${message}` });
  });
}

test("a manifest may lack what the checkpoint lacked", () => {
  assert.ok(!("generationConfig" in parseManifest(withField("generationConfig", undefined))));
});

test("what is no object at all is refused", () => {
  for (const value of [null, [], 3, "text"]) assert.throws(() => parseManifest(value), { message: "model.json: `.` must be an object" });
});
