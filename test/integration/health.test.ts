import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { createChannel, createClient, Status } from "nice-grpc";
import { HealthDefinition } from "nice-grpc-server-health";
import { ServerReflectionService } from "nice-grpc-server-reflection";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { openHealthProbe, waitForServing } from "#libs/rpc/health.js";
import { implement, LIVE, startServer, type RunningServer } from "#libs/rpc/server.js";
import { startService } from "#libs/rpc/service.js";

const unused = () => {
  throw new Error("not under test");
};

const tokenizer = {
  encode: async () => ({ promptTokens: [1] }),
  decodeText: unused,
  getTokenizerInfo: unused,
};

async function start(t: TestContext): Promise<RunningServer> {
  const server = await startServer({ address: "127.0.0.1:0", services: [implement(TokenizerService, tokenizer)] });
  t.after(() => server.stop(0));
  return server;
}

test("health says NOT_SERVING and calls are refused until the service is told to serve", async (t) => {
  const server = await start(t);
  const probe = openHealthProbe(server.address);
  const { client, close } = connect(TokenizerService, server.address);
  t.after(() => [probe.close(), close()]);
  assert.equal(await probe.check(), "not-serving");
  await assert.rejects(client.encode({}), { kind: "not-ready", message: "the service is loading" });
  server.setServing(true);
  assert.equal(await probe.check(), "serving");
  assert.deepEqual((await client.encode({})).promptTokens, [1]);
});

test("health answers by service name, and does not know others", async (t) => {
  const server = await start(t);
  const own = openHealthProbe(server.address, "tessera.v1.TokenizerService");
  const other = openHealthProbe(server.address, "tessera.v1.DecoderService");
  t.after(() => [own.close(), other.close()]);
  assert.equal(await own.check(), "not-serving");
  await assert.rejects(other.check(), { kind: "not-found" });
});

test("a name too long to be repeated is not known either", async (t) => {
  const server = await start(t);
  const probe = openHealthProbe(server.address, "x".repeat(500_000));
  t.after(() => probe.close());
  await assert.rejects(probe.check(), { kind: "not-found" });
});

test("a service that is stuck says so under every name and lets calls in, until it moves on or stops", async (t) => {
  const server = await start(t);
  const probes = ["", "tessera.v1.TokenizerService", LIVE].map((name) => openHealthProbe(server.address, name));
  const { client, close } = connect(TokenizerService, server.address);
  t.after(() => [close(), ...probes.map((probe) => probe.close())]);
  const answers = () => Promise.all(probes.map((probe) => probe.check()));
  server.setAlive(false);
  server.setServing(true);
  assert.deepEqual(await answers(), ["not-serving", "not-serving", "not-serving"]);
  assert.deepEqual((await client.encode({})).promptTokens, [1]);
  server.setAlive(true);
  assert.deepEqual(await answers(), ["serving", "serving", "serving"]);
  server.setServing(false);
  assert.deepEqual(await answers(), ["not-serving", "not-serving", "serving"], "one that loads is alive");
});

test("a watcher hears of the stop, and does not hold it up", async (t) => {
  const server = await start(t);
  server.setServing(true);
  const channel = createChannel(server.address);
  t.after(() => channel.close());
  const watch = createClient(HealthDefinition, channel).watch({ service: "" })[Symbol.asyncIterator]();
  assert.equal((await watch.next()).value.status, 1);
  const stopped = server.stop();
  assert.equal((await watch.next()).value.status, 2);
  await stopped;
  await assert.rejects(watch.next(), { code: Status.UNAVAILABLE });
});

test("waitForServing settles when loading is done, and gives up by its signal", async (t) => {
  const { address, setServing } = await start(t);
  await assert.rejects(waitForServing(address, { signal: AbortSignal.timeout(100) }), { kind: "deadline-exceeded" });
  const waiting = waitForServing(address, { signal: t.signal });
  setServing(true);
  await waiting;
});

test("a service serves once it is loaded, and frees what it loaded after the last call", async () => {
  const events: string[] = [];
  const service = await startService({
    address: "127.0.0.1:0",
    service: TokenizerService,
    load: async () => ({
      implementation: tokenizer,
      close: async () => void events.push("closed"),
    }),
  });
  const { client, close } = connect(TokenizerService, service.address);
  assert.deepEqual((await client.encode({})).promptTokens, [1]);
  close();
  await Promise.all([service.stop(), service.stop()]);
  assert.deepEqual(events, ["closed"]);
});

test("a service that cannot load leaves nothing behind", async () => {
  const { address, stop } = await startServer({ address: "127.0.0.1:0", services: [] });
  await stop();
  await assert.rejects(startService({
    address,
    service: TokenizerService,
    load: async () => { throw new RangeError("bad weights"); },
  }), RangeError);
  const probe = openHealthProbe(address);
  await assert.rejects(probe.check(), { kind: "not-ready" });
  probe.close();
});

test("reflection lists the services and describes them with all they import", async (t) => {
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [implement(GeneratorService, { generate: unused, generateStages: unused, getGeneratorInfo: unused })],
  });
  t.after(() => server.stop(0));
  const channel = createChannel(server.address);
  t.after(() => channel.close());
  const { default: messages } = await import("nice-grpc-server-reflection/lib/proto/grpc/reflection/v1/reflection_pb.js");
  const requests = async function* () {
    yield new messages.ServerReflectionRequest().setListServices("*");
    yield new messages.ServerReflectionRequest().setFileContainingSymbol("tessera.v1.GeneratorService");
    yield new messages.ServerReflectionRequest().setFileByFilename("tessera/v1/types.proto");
  };
  const answers = [];
  for await (const answer of createClient(ServerReflectionService, channel).serverReflectionInfo(requests())) {
    answers.push(answer);
  }
  const [list, ...files] = answers;
  assert.deepEqual(list.toObject().listServicesResponse?.serviceList, [{ name: "tessera.v1.GeneratorService" }]);
  const names = files.map((answer) => {
    const bytes = answer.getFileDescriptorResponse()?.getFileDescriptorProtoList_asU8()[0];
    return fromBinary(FileDescriptorProtoSchema, bytes ?? new Uint8Array()).name;
  });
  assert.deepEqual(names, ["tessera/v1/generator.proto", "tessera/v1/types.proto"]);
});
