import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { SPANS } from "#libs/telemetry/names.js";
import { startOtlpReceiver, type OtlpReceiver, type ReceivedSpan } from "#test/doubles/otlp-receiver.js";
import { errorOf, events, firstEvent, makeImages, startTestStack, type TestStack } from "#test/doubles/start-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

const GRID_SIZE = 48;
const GENERATE_IMAGE = "tessera.v1.DecoderService/GenerateImage";
const GENERATE = "tessera.v1.GeneratorService/Generate";
const ENCODE = "tessera.v1.TokenizerService/Encode";
/** In the order in which an image of discrete tokens goes through them. */
const STEPS: readonly string[] = [
  SPANS.tokenize, SPANS.queue, SPANS.prefill, SPANS.decode, SPANS.detokenize, SPANS.encode, SPANS.transfer,
];
/** Starts of spans are whole milliseconds of each process's clock. */
const CLOCK_MS = 2;

/** An image of which so many tokens are there. */
const prefix = (length: number) => [{ imageIndex: 0, tokens: Array<number>(length).fill(0) }];

let receiver: OtlpReceiver;
let stack: TestStack;

before(async () => {
  receiver = await startOtlpReceiver();
  stack = await startTestStack({ bundle: await slowBundle(GRID_SIZE), env: receiver.env });
  // Connections are made, and all but one token of the image are there: it takes no time.
  await makeImages(stack, { prefixes: prefix(GRID_SIZE ** 2 - 1) });
});
after(async () => {
  await stack.stop();
  receiver.close();
});

/** The spans of the next image: those of its trace, which is not known yet, once the condition holds for them. */
async function spansOf(
  call: () => Promise<unknown>, isWhole: (spans: readonly ReceivedSpan[]) => boolean,
): Promise<readonly ReceivedSpan[]> {
  await receiver.until((spans) => spans.some(({ name }) => name === GENERATE_IMAGE));
  const known = new Set(receiver.spans.map(({ traceId }) => traceId));
  const own = () => {
    const traces = new Set(receiver.spans.filter(({ name }) => name === GENERATE).map(({ traceId }) => traceId));
    return receiver.spans.filter(({ traceId }) => traces.has(traceId) && !known.has(traceId));
  };
  await call();
  await receiver.until(() => isWhole(own()));
  return own();
}

/** `service kind name: status`, in words; the status is the error's kind or the gRPC code. */
function told(spans: readonly ReceivedSpan[]): readonly string[] {
  return spans.map(({ service, kind, name, attributes, isFailed }) => {
    const status = attributes["error.type"] ?? "ok";
    assert.equal(isFailed, status !== "ok", `${name} is marked as failed exactly if it has an error`);
    const code = attributes["rpc.grpc.status_code"];
    return `${service.replace("tessera-", "")} ${kind} ${name.split("/").at(-1)}: ${status}${code === undefined ? "" : ` ${code}`}`;
  }).sort();
}

const has = (...names: readonly string[]) => (spans: readonly ReceivedSpan[]) =>
  names.every((wanted) => spans.some(({ service, kind, name }) => wanted === `${service.replace("tessera-", "")} ${kind} ${name}`));

test("the steps of an image follow each other and add up to the time that its request took", async () => {
  const isWhole = (spans: readonly ReceivedSpan[]) => [...STEPS, GENERATE_IMAGE].every((wanted) => spans.some(({ name }) => name === wanted));
  const spans = await spansOf(() => makeImages(stack), isWhole);
  const request = spans.find(({ name }) => name === GENERATE_IMAGE)!;
  const steps = spans.filter(({ name }) => STEPS.includes(name)).toSorted((a, b) => a.startMs - b.startMs);
  assert.deepEqual(steps.map(({ name }) => name), STEPS);
  for (const [index, { name, startMs }] of steps.entries()) {
    const previousEnd = steps[index - 1]?.endMs ?? request.startMs;
    assert.ok(startMs >= previousEnd - CLOCK_MS, `${name} begins ${previousEnd - startMs} ms before the step ahead of it has ended`);
  }
  const lengthOf = ({ startMs, endMs }: ReceivedSpan) => endMs - startMs;
  const share = steps.reduce((sum, step) => sum + lengthOf(step), 0) / lengthOf(request);
  const lengths = () => [...steps, request].map((span) => `${span.name} ${lengthOf(span).toFixed(1)} ms`).join(", ");
  assert.ok(Math.abs(share - 1) <= 0.05, `the steps make ${(100 * share).toFixed(1)} % of the request: ${lengths()}`);
});

const TOKENIZED = ["generator client Encode: ok 0", "tokenizer internal tokenize: ok", "tokenizer server Encode: ok 0"];
const PREFILLED = ["generator internal prefill: ok", "generator internal queue: ok"];
const ENDED = has(
  `decoder server ${GENERATE_IMAGE}`, `decoder client ${GENERATE}`, `generator server ${GENERATE}`, "generator internal decode",
  `tokenizer server ${ENCODE}`,
);

/** What all services tell of a call that ended early while tokens were drawn. */
const endedEarly = (kind: string, code: number) => [
  `decoder client Generate: ${kind} ${code}`, `decoder server GenerateImage: ${kind} ${code}`, ...TOKENIZED,
  `generator internal decode: ${kind}`, ...PREFILLED, `generator server Generate: ${kind} ${code}`,
].sort();

test("a cancel ends the spans of all services, as cancelled", async () => {
  const spans = await spansOf(async () => {
    const cancel = new AbortController();
    const call = events(stack, {}, { signal: cancel.signal });
    await firstEvent(call, "progress");
    cancel.abort();
    await errorOf(call);
  }, ENDED);
  assert.deepEqual(told(spans), endedEarly("cancelled", 1));
});

test("a deadline that passes ends the spans of all services, as exceeded", async () => {
  const spans = await spansOf(async () => {
    // Short of the time after which a frozen peer counts as gone, with room for what is left to draw.
    const call = events(stack, { prefixes: prefix(GRID_SIZE ** 2 - 200) }, { timeoutMs: 6000 });
    await firstEvent(call, "progress");
    stack.stack.generator.kill("SIGSTOP");
    await errorOf(call);
    stack.stack.generator.kill("SIGCONT");
  }, ENDED);
  assert.deepEqual(told(spans), endedEarly("deadline-exceeded", 4));
});

test("a decoder that dies leaves the generator's spans ended, as cancelled", async () => {
  const spans = await spansOf(async () => {
    const call = events(stack);
    await firstEvent(call, "progress");
    stack.stack.decoder.kill("SIGKILL");
    await errorOf(call);
    await stack.restart("decoder");
    // The client notices in its own time that there is a decoder again.
    while (await stack.client.getDecoderInfo({}).then(() => false, () => true));
  }, has(`generator server ${GENERATE}`, "generator internal decode", `tokenizer server ${ENCODE}`));
  assert.deepEqual(told(spans), [...TOKENIZED, "generator internal decode: cancelled", ...PREFILLED, "generator server Generate: cancelled 1"].sort());
});

test("a generator that dies leaves the decoder's spans ended, as not ready", async () => {
  const spans = await spansOf(async () => {
    const call = events(stack);
    await firstEvent(call, "progress");
    stack.stack.generator.kill("SIGKILL");
    await errorOf(call);
  }, has(`decoder server ${GENERATE_IMAGE}`, `tokenizer server ${ENCODE}`));
  const ofOthers = told(spans.filter(({ service }) => service !== "tessera-generator"));
  assert.ok(ofOthers.includes("decoder server GenerateImage: not-ready 14"));
  assert.deepEqual([...new Set(ofOthers)], [
    "decoder client Generate: not-ready 14", "decoder server GenerateImage: not-ready 14", "tokenizer internal tokenize: ok",
    "tokenizer server Encode: ok 0",
  ]);
});
