import { after, before, beforeEach } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { connect, type Connection } from "#libs/rpc/client.js";
import type { Definition } from "#libs/rpc/definition.js";
import { DecoderService, type GenerateImageRequestSchema, type GenerateImageResponse } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { RunningServer } from "#libs/rpc/server.js";
import type { RunningService } from "#libs/rpc/service.js";
import { startDecoder } from "#services/decoder/start.js";
import { FakeGenerator } from "#test/doubles/fake-generator.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

/** What a test asks of GenerateImage. */
export type GenerateImageInit = MessageInitShape<typeof GenerateImageRequestSchema>;

/** The prompt that no file, error or span may show. */
export const PROMPT = "a secret prompt";

/** A real decoder on the tiny bundle, in front of a fake generator; there from a file's first test to its last. */
export class DecoderStand {
  bundle!: TokenBundle;
  fake!: FakeGenerator;
  generator!: RunningServer;
  decoder!: RunningService;
  connection!: Connection<Definition<(typeof DecoderService)["method"]>>;

  /** Call it at the top of a test file: it registers the hooks. */
  static forThisFile(): DecoderStand {
    const stand = new DecoderStand();
    before(() => stand.#start());
    beforeEach(() => {
      stand.fake.script = (request) => stand.fake.drawn(request);
    });
    after(() => stand.#stop());
    return stand;
  }

  /** Generate with seed 7, unless told otherwise. */
  generate(
    init: GenerateImageInit = {}, options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
  ): AsyncIterable<GenerateImageResponse> {
    const request = { generation: { prompt: PROMPT, seed: 7n }, ...init } as GenerateImageInit;
    return this.connection.client.generateImage(request, options);
  }

  async #start(): Promise<void> {
    this.bundle = await openTokenBundle(await tinyBundle());
    this.fake = new FakeGenerator(this.bundle);
    this.generator = await this.fake.start();
    this.decoder = await startDecoder({
      address: "127.0.0.1:0", bundleFolder: this.bundle.folder, generatorAddress: this.generator.address, threads: 1,
      provider: "cpu",
    });
    this.connection = connect(DecoderService, this.decoder.address);
  }

  async #stop(): Promise<void> {
    this.connection.close();
    await this.decoder.stop();
    await this.generator.stop();
  }
}

/** Every event of an answer. */
export async function collect(responses: AsyncIterable<GenerateImageResponse>): Promise<GenerateImageResponse["event"][]> {
  const events: GenerateImageResponse["event"][] = [];
  for await (const { event } of responses) events.push(event);
  return events;
}
