import assert from "node:assert/strict";
import { test } from "node:test";
import { niceDefinition } from "./definition.js";
import { GeneratorService } from "./gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "./gen/tessera/v1/tokenizer_pb.js";

test("names, streaming and idempotency come from the .proto file", () => {
  const tokenizer = niceDefinition(TokenizerService);
  assert.equal(tokenizer.fullName, "tessera.v1.TokenizerService");
  assert.deepEqual(tokenizer.methods.encode.options, { idempotencyLevel: "NO_SIDE_EFFECTS" });
  assert.equal(tokenizer.methods.encode.name, "Encode");

  const { generate, generateStages } = niceDefinition(GeneratorService).methods;
  assert.deepEqual([generate.requestStream, generate.responseStream], [false, true]);
  assert.deepEqual([generateStages.requestStream, generateStages.responseStream], [true, true]);
  assert.deepEqual(generate.options, {});
});

test("messages survive their bytes, and received bytes are a view, not a copy", () => {
  const { encode } = niceDefinition(TokenizerService).methods;
  const bytes = encode.requestType.encode(encode.requestType.fromPartial({ prompt: "a red apple" })).finish();
  const decoded = encode.requestType.decode(bytes);
  assert.equal(decoded.prompt, "a red apple");
  assert.equal(decoded.negativePrompt, undefined);

  const { generateStages } = niceDefinition(GeneratorService).methods;
  const latent = { message: { case: "latent", value: { values: new Uint8Array([1, 2, 3]) } } } as const;
  const wire = generateStages.requestType.encode(generateStages.requestType.fromPartial(latent)).finish();
  const { message } = generateStages.requestType.decode(wire);
  assert.ok(message.case === "latent");
  assert.equal(message.value.values.buffer, wire.buffer);
});
