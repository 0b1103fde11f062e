import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { connect } from "#libs/rpc/client.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { implement, startServer } from "#libs/rpc/server.js";

/** A tokenizer that answers with its own number. */
async function startReplica(t: TestContext, number: number) {
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [implement(TokenizerService, {
      encode: async () => ({ promptTokens: [number] }), decodeText: async () => ({}), getTokenizerInfo: async () => ({}),
    })],
  });
  server.setServing(true);
  t.after(() => server.stop(0));
  return server;
}

test("calls go to all addresses of a name in turn, and past one that is gone", async (t) => {
  const replicas = await Promise.all([1, 2, 3].map((number) => startReplica(t, number)));
  // As a headless service's name resolves: one target, several addresses.
  const { client, close } = connect(TokenizerService, `ipv4:${replicas.map(({ address }) => address).join(",")}`);
  t.after(close);
  const ask = async () => (await client.encode({})).promptTokens[0];
  const seen = new Set<number>();
  // The channel serves as soon as one address is connected; the others follow.
  while (seen.size < 3) seen.add(await ask());
  const counts = new Map<number, number>();
  for (let i = 0; i < 30; i++) {
    const number = await ask();
    counts.set(number, (counts.get(number) ?? 0) + 1);
  }
  assert.deepEqual([...counts].sort(), [[1, 10], [2, 10], [3, 10]]);

  await replicas[0].stop(0);
  const after = new Set<number>();
  for (let i = 0; i < 30; i++) {
    const number = await ask().catch((error: { kind: string }) => {
      // A call that was on its way to the one that is gone.
      assert.equal(error.kind, "not-ready");
      return 0;
    });
    after.add(number);
  }
  assert.ok(after.has(2) && after.has(3) && !after.has(1));
});
