import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { notReady, overloaded } from "#libs/errors/errors.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { Definition } from "#libs/rpc/definition.js";
import { DecoderService, ImageFormat, type GenerateImageResponse } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService, type GenerateStagesRequest, type GenerateStagesResponse } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { implement, startServer, type RunningServer } from "#libs/rpc/server.js";
import type { RunningService } from "#libs/rpc/service.js";
import { startDecoder } from "#services/decoder/start.js";
import { readGeneratorConfig } from "#services/generator/config.js";
import { startGenerator } from "#services/generator/start.js";
import { startTokenizer } from "#services/tokenizer/start.js";
import { startGeneratorPair } from "#test/doubles/generator-pair.js";
import { tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";

const GENERATION = { prompt: "two red apples", seed: 7n, imageCount: 2 };

/** What a call shows of itself. */
interface Seen {
  readonly cases: readonly (string | undefined)[];
  readonly pixels: readonly Uint8Array[];
}

/** Stands before a generator and breaks calls off where a test says so. */
class Gate {
  /** Responses that each of the next calls lets through before it breaks off; a call beyond them is whole. */
  cuts: number[] = [];
  calls = 0;
  latents: number[] = [];
  error = notReady("the replica is gone");

  async *generateStages(requests: AsyncIterable<GenerateStagesRequest>, signal: AbortSignal): AsyncGenerator<GenerateStagesResponse> {
    this.calls++;
    this.latents.push(0);
    let left = this.cuts.shift() ?? Infinity;
    if (left-- === 0) throw this.error;
    for await (const response of upstream.client.generateStages(this.#counted(requests), { signal })) {
      yield response;
      if (left-- === 0) throw this.error;
    }
  }

  async *#counted(requests: AsyncIterable<GenerateStagesRequest>): AsyncGenerator<GenerateStagesRequest> {
    const call = this.latents.length - 1;
    for await (const request of requests) {
      if (request.message.case === "latent") this.latents[call]!++;
      yield request;
    }
  }
}

const gate = new Gate();
let services: readonly RunningService[];
let server: RunningServer;
let upstream: Connection<Definition<(typeof GeneratorService)["method"]>>;
let decoder: Connection<Definition<(typeof DecoderService)["method"]>>;
/** What nobody disturbs. */
let calm: Seen;

before(async () => {
  const bundleFolder = await tinyStageBundle();
  const address = "127.0.0.1:0";
  const tokenizer = await startTokenizer({ address, bundleFolder });
  const config = readGeneratorConfig({ TESSERA_BUNDLE: bundleFolder, TESSERA_TOKENIZER_ADDRESS: tokenizer.address });
  const generator = await startGenerator({ ...config, address });
  upstream = connect(GeneratorService, generator.address);
  server = await startServer({ address, services: [implement(GeneratorService, {
    generateStages: (requests: AsyncIterable<GenerateStagesRequest>, { signal }) => gate.generateStages(requests, signal),
    async *generate() {},
    getGeneratorInfo: async () => ({}),
  })] });
  server.setServing(true);
  const drawing = await startDecoder({ address, bundleFolder, generatorAddress: server.address, threads: 1, provider: "cpu" });
  services = [drawing, generator, tokenizer];
  decoder = connect(DecoderService, drawing.address);
  calm = await see(decoder.client.generateImage({ generation: GENERATION, previewIntervalRows: 1, encoding: { format: ImageFormat.RAW } }));
});

after(async () => {
  decoder.close();
  await services[0]!.stop(0);
  await server.stop(0);
  upstream.close();
  for (const service of services.slice(1)) await service.stop(0);
});

async function see(responses: AsyncIterable<GenerateImageResponse>): Promise<Seen> {
  const cases: (string | undefined)[] = [];
  const pixels: Uint8Array[] = [];
  for await (const { event } of responses) {
    cases.push(event.case);
    if (event.case === "imageChunk" && !event.value.preview) pixels[event.value.imageIndex] = event.value.data;
  }
  return { cases: cases.sort(), pixels };
}

async function disturbed(cuts: readonly number[], error = notReady("the replica is gone")): Promise<Seen> {
  Object.assign(gate, { cuts: [...cuts], calls: 0, latents: [], error });
  return see(decoder.client.generateImage({ generation: GENERATION, previewIntervalRows: 1, encoding: { format: ImageFormat.RAW } }));
}

test("wherever a generator is lost, another goes on, and the client sees the very same", async () => {
  // The start, three maps and an end for each of two images.
  for (let cut = 1; cut <= 8; cut++) {
    assert.deepEqual(await disturbed([cut]), calm, `after ${cut} responses`);
    assert.equal(gate.calls, 2);
    assert.equal(gate.latents[1], 4, "the second one is given every latent, old and new, once");
  }
});

test("it may be lost again, before it has come as far, and be full or gone in between", async () => {
  assert.deepEqual(await disturbed([5, 1, 3, 0, 6]), calm);
  assert.equal(gate.calls, 6);
  assert.deepEqual(await disturbed([3, 0], overloaded("full", 1)), calm);
});

test("a call that was never begun is refused as it is", async () => {
  await assert.rejects(disturbed([0], overloaded("full", 5)), { kind: "overloaded", retryDelayMs: 5 });
  assert.equal(gate.calls, 1);
});

test("images of a generator process that is killed go on at the other", async () => {
  const pair = await startGeneratorPair(await tinyStageBundle());
  const make = async function* (onProgress?: () => void): AsyncGenerator<GenerateImageResponse> {
    const generation = { ...GENERATION, imageCount: 16 };
    for await (const response of pair.client.generateImage({ generation, encoding: { format: ImageFormat.RAW } })) {
      if (response.event.case === "progress") onProgress?.();
      yield response;
    }
  };
  const counts = () => Promise.all([0, 1].map((number) => pair.imagesOf(number)));
  try {
    // The generators take turns as soon as the decoder is connected to both.
    let before = [0, 0];
    let last = 0;
    let expected: Seen | undefined;
    while (before.includes(0)) {
      expected = await see(make());
      const after = await counts();
      last = after.findIndex((count, number) => count > before[number]!);
      before = after;
    }
    const victim = pair.generators[1 - last]!;
    assert.deepEqual(await see(make(() => victim.kill("SIGKILL"))), expected);
    assert.match((await victim.ended).message, /SIGKILL/);
    assert.equal(await pair.imagesOf(last), before[last]! + 16);
  } finally {
    await pair.stop();
  }
});
