import assert from "node:assert/strict";
import { after, test } from "node:test";
import { SPANS } from "#libs/telemetry/names.js";
import { pathToRoot, startOtlpReceiver } from "#test/doubles/otlp-receiver.js";
import { makeImages, startTestStack } from "#test/doubles/start-stack.js";

const PROMPT = "a most unmistakable zebra";
/** All but the flow, which only stage-wise models have. */
const STEPS: readonly string[] = Object.values(SPANS).filter((name) => name !== SPANS.flow);
const NEGATIVE_PROMPT = "anything unspeakable";

const receiver = await startOtlpReceiver();
const stack = await startTestStack({ env: receiver.env });
after(async () => {
  await stack.stop();
  receiver.close();
});

test("one image is one trace over three processes, and its texts stay inside them", async () => {
  const { pictures } = await makeImages(stack, { prompt: PROMPT, negativePrompt: NEGATIVE_PROMPT });
  const root = "tessera.v1.DecoderService/GenerateImage";
  await receiver.until((spans) => spans.some(({ name }) => name === root));
  // The root ends last, but each process sends on its own schedule.
  await receiver.until((spans) => STEPS.every((wanted) => spans.some(({ name }) => name === wanted)));
  const { traceId } = receiver.spans.find(({ name }) => name === root)!;
  const trace = receiver.spans.filter((span) => span.traceId === traceId);

  const steps = trace.filter(({ name }) => STEPS.includes(name));
  const where = Object.fromEntries(steps.map(({ name, service }) => [name, service]));
  assert.deepEqual(where, {
    tokenize: "tessera-tokenizer", queue: "tessera-generator", prefill: "tessera-generator", decode: "tessera-generator",
    transfer: "tessera-decoder", detokenize: "tessera-decoder", encode: "tessera-decoder",
  });
  assert.equal(steps.length, 7, "each step once");
  await receiver.until((spans) => steps.every((step) => pathToRoot(step, spans).at(-1) === `tessera-decoder server ${root}`));
  assert.deepEqual(pathToRoot(steps.find(({ name }) => name === "tokenize")!, receiver.spans), [
    "tessera-tokenizer internal tokenize",
    "tessera-tokenizer server tessera.v1.TokenizerService/Encode",
    "tessera-generator client tessera.v1.TokenizerService/Encode",
    "tessera-generator server tessera.v1.GeneratorService/Generate",
    "tessera-decoder client tessera.v1.GeneratorService/Generate",
    "tessera-decoder server tessera.v1.DecoderService/GenerateImage",
  ]);

  for (const word of [...PROMPT.split(" ").filter((part) => part.length > 4), ...NEGATIVE_PROMPT.split(" ")]) {
    assert.ok(!receiver.text.includes(word), `"${word}" left the process`);
  }
  assert.ok(!receiver.text.includes(Buffer.from(pictures[0].data.subarray(0, 24)).toString("base64").slice(0, 24)));
});
