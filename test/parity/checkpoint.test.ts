import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { Qwen2Checkpoint } from "#libs/convert/qwen2-checkpoint.js";
import { readSafetensorsFolder } from "#libs/convert/safetensors.js";
import { buildTransformer } from "#libs/convert/transformer-graph.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";
import { writeSafetensors, type WrittenTensor } from "#test/fixtures/write-safetensors.js";

const OPTIONS = { tokenOffset: 307, codebookSize: 36, weights: "fp32" } as const;
const EMBEDDING = "model.embed_tokens.weight";

let parent: string;
let folder: string;
let original: Record<string, WrittenTensor>;

before(async () => {
  parent = await mkdtemp(join(tmpdir(), "tessera-checkpoint-"));
  folder = join(parent, "lm");
  const stored = await readSafetensorsFolder(join(TINY_FOLDER, "lm"));
  original = Object.fromEntries(await Promise.all(stored.names.map(async (name) => {
    const shape = stored.shape(name);
    return [name, { type: "F32", shape, data: await stored.floats(name, shape) }] as const;
  })));
});
beforeEach(() => cp(join(TINY_FOLDER, "lm"), folder, { recursive: true }));
after(() => rm(parent, { recursive: true }));

async function build(): Promise<Uint8Array> {
  return buildTransformer(await Qwen2Checkpoint.open(folder), OPTIONS);
}

function saveTensors(tensors: Readonly<Record<string, WrittenTensor>>): Promise<void> {
  return writeSafetensors(join(folder, "model.safetensors"), tensors);
}

async function saveConfig(changes: Readonly<Record<string, unknown>>): Promise<void> {
  const config = JSON.parse(await readFile(join(folder, "config.json"), "utf8")) as object;
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, ...changes }));
}

test("a missing, unknown or misshapen array is refused by name", async () => {
  const { "model.norm.weight": norm, ...rest } = original;
  await saveTensors(rest);
  await assert.rejects(build(), { kind: "mismatch", message: "model.safetensors: array `model.norm.weight` is missing" });
  await saveTensors({ ...original, "model.extra.weight": norm });
  await assert.rejects(build(), { kind: "mismatch", message: "model.safetensors: 1 unknown array(s): `model.extra.weight`" });
  await saveTensors({ ...rest, "model.norm.weight": { ...norm, shape: [16, 2] } });
  await assert.rejects(build(), { message: "model.safetensors: `model.norm.weight` must have shape [32], got [16, 2]" });
});

test("a tied head may be stored or not", async () => {
  const expected = await build();
  await saveTensors({ ...original, "lm_head.weight": original[EMBEDDING] });
  assert.deepEqual(await build(), expected);
});

test("an untied head is read, and required", async () => {
  const expected = await build();
  await saveConfig({ tie_word_embeddings: false });
  await assert.rejects(build(), { message: "model.safetensors: array `lm_head.weight` is missing" });
  await saveTensors({ ...original, "lm_head.weight": original[EMBEDDING] });
  assert.deepEqual(await build(), expected);
  const doubled = { ...original[EMBEDDING], data: (original[EMBEDDING].data as Float32Array).map((value) => 2 * value) };
  await saveTensors({ ...original, "lm_head.weight": doubled });
  assert.notDeepEqual(await build(), expected);
});

test("a bfloat16 checkpoint gives the very graph of its float32 values", async () => {
  const expected = await build();
  await saveTensors(Object.fromEntries(Object.entries(original).map(([name, tensor]) => {
    const bits = new Uint32Array((tensor.data as Float32Array).buffer);
    return [name, { type: "BF16", shape: tensor.shape, data: Uint16Array.from(bits, (word) => word >>> 16) }];
  })));
  assert.deepEqual(await build(), expected);
});

test("config.json as transformers 4 wrote it gives the same graph", async () => {
  const expected = await build();
  await saveConfig({ rope_parameters: undefined, rope_theta: 1e6, rope_scaling: null });
  assert.deepEqual(await build(), expected);
});

test("a network that would compute otherwise is refused by its field", async () => {
  const cases: readonly (readonly [changes: Readonly<Record<string, unknown>>, message: string])[] = [
    [{ model_type: "llama" }, '`model_type` must be "qwen2", got "llama"'],
    [{ hidden_act: "gelu" }, '`hidden_act` must be "silu", got "gelu"'],
    [{ use_sliding_window: true }, "`use_sliding_window` must be false, got true"],
    [{ rope_parameters: { rope_type: "yarn", rope_theta: 1e6 } }, '`rope_parameters.rope_type` must be "default", got "yarn"'],
    [{ rope_parameters: undefined, rope_theta: 1e6, rope_scaling: {} }, "`rope_scaling` must be null, got {}"],
    [{ num_key_value_heads: 3 }, "`num_key_value_heads` must be a divisor of 4, got 3"],
    [{ num_attention_heads: 5, num_key_value_heads: 5 }, "`num_attention_heads` must be a divisor of 32, got 5"],
    [{ rms_norm_eps: "small" }, '`rms_norm_eps` must be a number 0 .. 1, got "small"'],
    [{ tie_word_embeddings: undefined }, "`tie_word_embeddings` must be true or false, got nothing"],
  ];
  for (const [changes, message] of cases) {
    await cp(join(TINY_FOLDER, "lm"), folder, { recursive: true });
    await saveConfig(changes);
    await assert.rejects(build(), { kind: "mismatch", message: `config.json: ${message}` });
  }
});
