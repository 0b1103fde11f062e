import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
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

const PINGING: Options = { "grpc.keepalive_time_ms": 4 * INTERVAL_MS, "grpc.keepalive_timeout_ms": 10_000 };

/** A server of one long call, whose connections take no new ones soon after they were made. @returns its port. */
async function startServer(t: TestContext, options: Options): Promise<number> {
  const server = new Server({ "grpc.max_connection_age_ms": 3 * INTERVAL_MS, ...options });
  t.after(() => server.forceShutdown());
  server.addService(SERVICE, {
    count: (call: ServerWritableStream<Buffer, Buffer>) => void (async () => {
      for (let i = 0; i < MESSAGES; i++) {
        await delay(INTERVAL_MS);
        call.write(Buffer.of(i));
      }
      call.end();
    })(),
  });
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
}

/** The messages of the long call. */
function messages(t: TestContext, port: number, options: Options): AsyncIterable<Buffer> {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), options);
  t.after(() => client.close());
  return client.count(Buffer.of());
}

/** How many of them arrive. */
async function messagesThatArrive(t: TestContext, serverOptions: Options, clientOptions: Options): Promise<number> {
  let count = 0;
  for await (const _ of messages(t, await startServer(t, serverOptions), clientOptions)) count++;
  return count;
}

/** Let a connection pass through a listener of its own. @returns its port, and how to let it fall silent at both ends. */
async function silenceable(t: TestContext, port: number): Promise<{ readonly port: number; silence(): void }> {
  const sockets: Socket[] = [];
  const proxy = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    sockets.push(near, far);
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on("error", () => {});
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  return {
    port: (proxy.address() as AddressInfo).port,
    silence: () => {
      for (const socket of sockets) socket.unpipe();
    },
  };
}

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

test("a peer that falls silent while its connection drains is found out", async (t) => {
  letDrainingConnectionsLive();
  const proxy = await silenceable(t, await startServer(t, {}));
  let count = 0;
  await assert.rejects(async () => {
    for await (const _ of messages(t, proxy.port, { ...PINGING, "grpc.keepalive_timeout_ms": 10 * INTERVAL_MS })) {
      // By now the connection is older than it may be.
      if (++count === MESSAGES / 2) proxy.silence();
    }
  }, /UNAVAILABLE/);
  assert.ok(count >= MESSAGES / 2 && count < MESSAGES, `${count}`);
});
