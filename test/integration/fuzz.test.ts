import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { DEFAULT_MAX_QUEUE_LENGTH } from "#libs/rpc/limits.js";
import { connect } from "#libs/rpc/client.js";
import { DecoderService } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import type { RunningService } from "#libs/rpc/service.js";
import { startDecoder } from "#services/decoder/start.js";
import { readGeneratorConfig } from "#services/generator/config.js";
import { startGenerator } from "#services/generator/start.js";
import { startTokenizer } from "#services/tokenizer/start.js";
import { anyCall, Dice } from "#test/doubles/fuzz.js";
import { RawClient, type RawCall, type RawOutcome } from "#test/doubles/raw-call.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";
import { tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";

/** TESSERA_FUZZ_SEED finds a failure again; TESSERA_FUZZ_SECONDS looks longer, for each service. */
const SEED = Number(process.env["TESSERA_FUZZ_SEED"] || 1);
const SECONDS = Number(process.env["TESSERA_FUZZ_SECONDS"] || 3);

/** Far above what any call on the tiny model takes, even a full one: what is not over by then never will be. */
const HANG_MS = 20_000;
const LANES = 3;
const HEAP_GROWTH_BYTES = 24 * 2 ** 20;

/** UNKNOWN means that an error got past our mapping. */
const UNKNOWN = 2;

/** The services of one bundle. */
interface Trio {
  readonly tokenizer: RunningService;
  readonly generator: RunningService;
  readonly decoder: RunningService;
}

let tokens: Trio;
let stages: Trio;

async function startTrio(bundleFolder: string): Promise<Trio> {
  const address = "127.0.0.1:0";
  const tokenizer = await startTokenizer({ address, bundleFolder });
  const config = readGeneratorConfig({ TESSERA_BUNDLE: bundleFolder, TESSERA_TOKENIZER_ADDRESS: tokenizer.address });
  const generator = await startGenerator({ ...config, address, maxQueueLength: DEFAULT_MAX_QUEUE_LENGTH });
  const decoder = await startDecoder({ address, bundleFolder, generatorAddress: generator.address, threads: 1, provider: "cpu" });
  return { tokenizer, generator, decoder };
}

before(async () => {
  tokens = await startTrio(await tinyBundle());
  stages = await startTrio(await tinyStageBundle());
});

after(async () => {
  for (const { decoder, generator, tokenizer } of [tokens, stages]) {
    for (const service of [decoder, generator, tokenizer]) await service.stop(0);
  }
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

/**
 * What becomes of a call. One in a thousand that both sides end in the same moment loses its status inside Node's HTTP/2
 * (11 of 12,000 with a bare grpc-js handler), so a status that is missing has to be missing again.
 */
async function settled(client: RawClient, call: RawCall): Promise<RawOutcome> {
  for (let tries = 1; ; tries++) {
    const outcome = await client.call(call, HANG_MS);
    if (outcome.type !== "reset" || call.ending !== "end" || tries === 3) return outcome;
  }
}

/** Throw calls at one service until the time is over. @returns how many, and what was wrong. */
async function fuzz(address: string, service: GenService<GenServiceMethods>, seed: number, seconds: number) {
  const end = performance.now() + seconds * 1000;
  const faults: string[] = [];
  let calls = 0;
  const lane = async (dice: Dice) => {
    const client = new RawClient(address);
    while (performance.now() < end && faults.length === 0) {
      const { name, ...call } = anyCall(service, dice);
      const outcome = await settled(client, call);
      calls++;
      if (outcome.type === "hang") faults.push(`${name}: no end within ${HANG_MS} ms`);
      if (outcome.type === "status" && (outcome.code === UNKNOWN || outcome.message.startsWith("internal error"))) {
        faults.push(`${name}: status ${outcome.code} ${outcome.message}`);
      }
      if (outcome.type === "reset" && call.ending === "end") faults.push(`${name}: reset with ${outcome.code} and no status`);
    }
    client.close();
  };
  await Promise.all(Array.from({ length: LANES }, (_, index) => lane(new Dice(seed * LANES + index))));
  return { calls, faults };
}

const TARGETS = [
  ["tokenizer", () => tokens.tokenizer, TokenizerService],
  ["generator", () => tokens.generator, GeneratorService], ["generator of stages", () => stages.generator, GeneratorService],
  ["decoder", () => tokens.decoder, DecoderService], ["decoder of stages", () => stages.decoder, DecoderService],
] as const;

for (const [name, target, service] of TARGETS) {
  test(`${name}: whatever comes in ends with a status, and leaves nothing behind`, async (t) => {
    const { address } = target();
    const anyService = service as GenService<GenServiceMethods>;
    const warm = await fuzz(address, anyService, SEED, SECONDS / 2);
    const heapBefore = heapBytes();
    const { calls, faults } = await fuzz(address, anyService, SEED + 1, SECONDS / 2);
    assert.deepEqual([...warm.faults, ...faults], [], `seed ${SEED}`);
    t.diagnostic(`${warm.calls + calls} calls with seed ${SEED}`);
    assert.ok(calls > 10);
    assert.ok(heapBytes() - heapBefore < HEAP_GROWTH_BYTES, `the heap grew by ${heapBytes() - heapBefore} bytes over ${calls} calls`);
    const probe = openHealthProbe(address);
    t.after(() => probe.close());
    assert.equal(await probe.check(), "serving");
  });
}

for (const [name, trio] of [["tokens", () => tokens], ["stages", () => stages]] as const) {
  test(`after all that the generator of ${name} is idle, and a proper request is served`, async (t) => {
    const info = connect(GeneratorService, trio().generator.address);
    const { client, close } = connect(DecoderService, trio().decoder.address);
    t.after(() => [info.close(), close()]);
    const events = [];
    for await (const { event } of client.generateImage({ generation: { prompt: "a dog", seed: 1n } })) events.push(event.case);
    assert.equal(events.at(-1), "imageFinished");
    const { queueLength, running } = await info.client.getGeneratorInfo({});
    assert.deepEqual([queueLength, running], [0, 0]);
  });
}
