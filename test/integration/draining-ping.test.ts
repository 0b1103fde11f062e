import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { credentials, makeGenericClientConstructor, Server, ServerCredentials, type ServerWritableStream } from "@grpc/grpc-js";
import { letDrainingConnectionsLive } from "#libs/rpc/draining-ping.js";

const MESSAGES = 30;
const INTERVAL_MS = 20;

const asIs = (bytes: Buffer) => bytes;
const SERVICE = {
  count: {
    path: "/test/Count", requestStream: false, responseStream: true,
    requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs,
  },
};
const Client = makeGenericClientConstructor(SERVICE, "test");

type Options = Readonly<Record<string, number>>;

/** How many messages of a long call arrive over a connection that takes no new calls soon after it was made. */
async function messagesThatArrive(t: TestContext, serverOptions: Options, clientOptions: Options): Promise<number> {
  const server = new Server({ "grpc.max_connection_age_ms": 3 * INTERVAL_MS, ...serverOptions });
  server.addService(SERVICE, {
    count: (call: ServerWritableStream<Buffer, Buffer>) => void (async () => {
      for (let i = 0; i < MESSAGES; i++) {
        await delay(INTERVAL_MS);
        call.write(Buffer.of(i));
      }
      call.end();
    })(),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), clientOptions);
  t.after(() => {
    client.close();
    server.forceShutdown();
  });
  let count = 0;
  for await (const _ of client.count(Buffer.of())) count++;
  return count;
}

const PINGING: Options = { "grpc.keepalive_time_ms": 4 * INTERVAL_MS, "grpc.keepalive_timeout_ms": 10_000 };

test("grpc-js alone cuts the calls of a draining connection with its next ping", async (t) => {
  assert.equal(await messagesThatArrive(t, {}, {}), MESSAGES);
  await assert.rejects(messagesThatArrive(t, PINGING, {}), /RST_STREAM|UNAVAILABLE/);
  await assert.rejects(messagesThatArrive(t, {}, PINGING), /RST_STREAM|UNAVAILABLE/);
});

test("calls outlive the age of their connection, whichever end pings", async (t) => {
  letDrainingConnectionsLive();
  assert.equal(await messagesThatArrive(t, PINGING, {}), MESSAGES);
  assert.equal(await messagesThatArrive(t, {}, PINGING), MESSAGES);
  assert.equal(await messagesThatArrive(t, PINGING, PINGING), MESSAGES);
});
