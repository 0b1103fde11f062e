import assert from "node:assert/strict";
import { test } from "node:test";
import { createChannel, createClient } from "nice-grpc";
import { ServerReflectionService } from "nice-grpc-server-reflection";
import { hashOf, type ApiKey } from "#libs/rpc/api-keys.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import { CALL_SHAPES, startShape, type CallShape } from "#test/doubles/call-shapes.js";

const key = (name: string, more: Partial<ApiKey> = {}): ApiKey => ({
  name, sha256: hashOf(`${name}-key`), services: ["tokenizer", "generator"], callsPerMinute: 0, concurrentCalls: 0, ...more,
});

const call = (shape: CallShape, address: string, ownKey?: string) =>
  shape.call(address, { security: ownKey === undefined ? {} : { ownKey: { latest: ownKey } } });

for (const shape of CALL_SHAPES) {
  test(`${shape.name}: only who has a key comes in`, async (t) => {
    const keys = [key("web"), key("other", { services: ["decoder"] })];
    const server = await startShape(shape, async () => {}, { keys: { latest: keys } });
    t.after(() => server.stop(0));
    assert.ok(await call(shape, server.address, "web-key") > 0);
    await assert.rejects(call(shape, server.address), { kind: "unauthenticated" });
    await assert.rejects(call(shape, server.address, "guess"), { kind: "unauthenticated", message: "the key is not known" });
    await assert.rejects(call(shape, server.address, "other-key"), { kind: "permission-denied" });
  });

  test(`${shape.name}: a call in progress holds its key's place, and gives it back however it ends`, async (t) => {
    let enter: () => void, finish: (error?: Error) => void;
    let entered: Promise<void>;
    const behave = () => new Promise<void>((resolve, reject) => {
      finish = (error) => (error === undefined ? resolve() : reject(error));
      enter();
    });
    const server = await startShape(shape, behave, { keys: { latest: [key("web", { concurrentCalls: 1 })] } });
    t.after(() => server.stop(0));
    for (const ending of [undefined, new Error("a bug")]) {
      t.mock.method(process.stderr, "write", () => true);
      entered = new Promise((resolve) => (enter = resolve));
      const first = call(shape, server.address, "web-key").catch(() => -1);
      await entered;
      await assert.rejects(call(shape, server.address, "web-key"), { kind: "overloaded", retryDelayMs: 1000 });
      finish!(ending);
      assert.equal(await first > 0, ending === undefined);
      t.mock.restoreAll();
    }
  });

  test(`${shape.name}: a key's calls a minute are counted, and the time to wait is told`, async (t) => {
    const server = await startShape(shape, async () => {}, { keys: { latest: [key("web", { callsPerMinute: 1 })] } });
    t.after(() => server.stop(0));
    await call(shape, server.address, "web-key");
    await assert.rejects(call(shape, server.address, "web-key"), (error: { kind: string; retryDelayMs: number }) => {
      assert.equal(error.kind, "overloaded");
      assert.ok(error.retryDelayMs > 0 && error.retryDelayMs <= 60_000);
      return true;
    });
  });
}

test("health and reflection need no key", async (t) => {
  const server = await startShape(CALL_SHAPES[1], async () => {}, { keys: { latest: [key("web")] } });
  const probe = openHealthProbe(server.address);
  const channel = createChannel(server.address);
  t.after(() => [probe.close(), channel.close(), server.stop(0)]);
  assert.equal(await probe.check(), "serving");
  const { default: messages } = await import("nice-grpc-server-reflection/lib/proto/grpc/reflection/v1/reflection_pb.js");
  const requests = async function* () {
    yield new messages.ServerReflectionRequest().setListServices("*");
  };
  for await (const answer of createClient(ServerReflectionService, channel).serverReflectionInfo(requests())) {
    assert.deepEqual(answer.toObject().listServicesResponse?.serviceList, [{ name: GeneratorService.typeName }]);
  }
});

test("a handler knows its caller's limits", async (t) => {
  const seen: unknown[] = [];
  const server = await startShape(CALL_SHAPES[1], async ({ limits }) => void seen.push(limits), { keys: { latest: [key("web", { callsPerMinute: 5 })] } });
  const { client, close } = connect(GeneratorService, server.address, { security: { ownKey: { latest: "web-key" } } });
  t.after(() => [close(), server.stop(0)]);
  for await (const _ of client.generate({}));
  assert.deepEqual(seen, [{ maxMessageBytes: 4 * 2 ** 20, keyRequired: true, callsPerMinute: 5, concurrentCalls: 0 }]);
});
