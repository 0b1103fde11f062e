import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";
import type { Env } from "#libs/config/env.js";
import { RELOAD_MS } from "#libs/config/reloading-files.js";
import { connect } from "#libs/rpc/client.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import { readSecurity } from "#libs/rpc/security.js";
import { implement, startServer, type RunningServer } from "#libs/rpc/server.js";
import { certificateAuthority, type CertificateFiles } from "#test/doubles/certificates.js";
import { freePorts } from "#libs/cli/free-ports.js";

const house = certificateAuthority("house");
const strangers = certificateAuthority("strangers");
const server = house.issue("server");
const friend = house.issue("friend");
const stranger = strangers.issue("stranger");

const own = ({ certFile, keyFile }: CertificateFiles): Env => ({ TESSERA_TLS_CERT: certFile, TESSERA_TLS_KEY: keyFile });
const trusting = (caFile: string): Env => ({ TESSERA_TLS_CA: caFile });

async function start(t: TestContext, env: Env, healthAddress?: string): Promise<RunningServer> {
  const running = await startServer({
    address: "127.0.0.1:0",
    ...(healthAddress && { healthAddress }),
    security: readSecurity(env),
    services: [implement(TokenizerService, {
      encode: async () => ({ promptTokens: [1] }), decodeText: async () => ({}), getTokenizerInfo: async () => ({}),
    })],
  });
  running.setServing(true);
  t.after(() => running.stop(0));
  return running;
}

async function encode(t: TestContext, address: string, env: Env, security = readSecurity(env)): Promise<readonly number[]> {
  const { client, close } = connect(TokenizerService, address.replace("127.0.0.1", "localhost"), { security });
  t.after(close);
  return (await client.encode({ prompt: "a" }, { timeoutMs: 2000 })).promptTokens;
}

const refused = { kind: /^(not-ready|deadline-exceeded)$/ };

test("a server with a certificate is believed by those who know its authority, and by nobody else", async (t) => {
  const { address } = await start(t, own(server));
  assert.deepEqual(await encode(t, address, trusting(house.caFile)), [1]);
  await assert.rejects(encode(t, address, trusting(strangers.caFile)), refused);
  await assert.rejects(encode(t, address, { TESSERA_TLS_CA: "system" }), refused);
  await assert.rejects(encode(t, address, {}), refused, "clear text");
});

test("mutual TLS lets in those whom its authority has signed", async (t) => {
  const { address } = await start(t, { ...own(server), ...trusting(house.caFile), TESSERA_TLS_CLIENTS: "required" });
  assert.deepEqual(await encode(t, address, { ...trusting(house.caFile), ...own(friend) }), [1]);
  await assert.rejects(encode(t, address, { ...trusting(house.caFile), ...own(stranger) }), refused);
  await assert.rejects(encode(t, address, trusting(house.caFile)), refused, "no certificate");
});

test("a client that wants TLS does not fall back to clear text", async (t) => {
  const { address } = await start(t, {});
  await assert.rejects(encode(t, address, trusting(house.caFile)), refused);
});

test("probes ask a port of their own, in clear text, and are told of a stuck service", async (t) => {
  const [port] = await freePorts(1);
  const running = await start(t, { ...own(server), ...trusting(house.caFile), TESSERA_TLS_CLIENTS: "required" }, `127.0.0.1:${port}`);
  const [ready, live] = ["", "live"].map((name) => openHealthProbe(`127.0.0.1:${port}`, name));
  t.after(() => [ready, live].forEach(({ close }) => close()));
  assert.deepEqual(await Promise.all([ready.check(), live.check()]), ["serving", "serving"]);
  running.setServing(false);
  assert.deepEqual(await Promise.all([ready.check(), live.check()]), ["not-serving", "serving"]);
  running.setServing(true);
  running.setAlive(false);
  assert.deepEqual(await Promise.all([ready.check(), live.check()]), ["not-serving", "not-serving"]);
  await running.stop(0);
  await assert.rejects(live.check(), { kind: "not-ready" });
});

test("`system` trusts the authorities of Node, and those that NODE_EXTRA_CA_CERTS adds", async (t) => {
  const { address } = await start(t, own(server));
  const script = `
    import { connect } from "#libs/rpc/client.js";
    import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
    import { readSecurity } from "#libs/rpc/security.js";
    const { client, close } = connect(TokenizerService, process.argv[1], { security: readSecurity(process.env) });
    console.log((await client.encode({ prompt: "a" }, { timeoutMs: 10_000 })).promptTokens.join());
    close();`;
  const { stdout } = await promisify(execFile)(
    process.execPath, ["--input-type=module", "--eval", script, address.replace("127.0.0.1", "localhost")],
    { env: { ...process.env, TESSERA_TLS_CA: "system", NODE_EXTRA_CA_CERTS: house.caFile } },
  );
  assert.equal(stdout, "1\n");
});

/** Files of its own that a test may renew, and how to let a minute pass. */
function renewable(t: TestContext, first: CertificateFiles, caFile: string) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const ca = `${first.certFile}.ca`;
  const files = { certFile: `${first.certFile}.renewed`, keyFile: `${first.keyFile}.renewed` };
  const put = ({ certFile, keyFile }: CertificateFiles, ...caFiles: readonly string[]) => {
    copyFileSync(certFile, files.certFile);
    copyFileSync(keyFile, files.keyFile);
    writeFileSync(ca, caFiles.map((file) => readFileSync(file, "utf8")).join(""));
  };
  put(first, caFile);
  return { env: { ...own(files), TESSERA_TLS_CA: ca }, files, put, minutePasses: () => t.mock.timers.tick(RELOAD_MS) };
}

test("renewed certificates are shown, and renewed authorities trusted, without a restart", async (t) => {
  const { env, put, minutePasses } = renewable(t, server, house.caFile);
  const { address } = await start(t, { ...env, TESSERA_TLS_CLIENTS: "required" });
  assert.deepEqual(await encode(t, address, { ...trusting(house.caFile), ...own(friend) }), [1]);
  await assert.rejects(encode(t, address, { ...trusting(house.caFile), ...own(stranger) }), refused);
  put(strangers.issue("server"), house.caFile, strangers.caFile);
  await assert.rejects(encode(t, address, { ...trusting(strangers.caFile), ...own(stranger) }), refused, "not before it is read");
  minutePasses();
  for (const client of [friend, stranger]) {
    assert.deepEqual(await encode(t, address, { ...trusting(strangers.caFile), ...own(client) }), [1]);
  }
  await assert.rejects(encode(t, address, { ...trusting(house.caFile), ...own(friend) }), refused, "the old one is gone");
});

test("a client shows its renewed certificate with its next connection", async (t) => {
  const { env, put, minutePasses } = renewable(t, stranger, house.caFile);
  const security = readSecurity(env);
  const call = async () => {
    const { address } = await start(t, { ...own(server), ...trusting(house.caFile), TESSERA_TLS_CLIENTS: "required" });
    return encode(t, address, env, security);
  };
  await assert.rejects(call(), refused);
  put(friend, house.caFile);
  minutePasses();
  assert.deepEqual(await call(), [1]);
});

test("all who use certificates hear of new ones, whoever comes between", async (t) => {
  const { env, put, minutePasses } = renewable(t, server, house.caFile);
  const { certificates } = readSecurity(env).tls!;
  const heard: string[][] = [[], []];
  const listen = (index: number) => certificates.addCaCertificateListener((update) => {
    heard[index].push(String(update!.caCertificate) === readFileSync(strangers.caFile, "utf8") ? "new" : "old");
  });
  listen(0);
  await new Promise((resolve) => setImmediate(resolve));
  put(server, strangers.caFile);
  listen(1);
  await new Promise((resolve) => setImmediate(resolve));
  minutePasses();
  assert.deepEqual(heard, [["old", "new"], ["old", "new"]]);
});

test("files that do not fit together change nothing until they do", async (t) => {
  const { env, files, put, minutePasses } = renewable(t, server, house.caFile);
  const { address } = await start(t, env);
  const complaints = t.mock.method(process.stderr, "write", () => true);
  copyFileSync(friend.keyFile, files.keyFile);
  minutePasses();
  assert.match(String(complaints.mock.calls[0]?.arguments[0]), /files cannot be reloaded.*TESSERA_TLS_KEY/);
  complaints.mock.restore();
  assert.deepEqual(await encode(t, address, trusting(house.caFile)), [1]);
  put(strangers.issue("second"), house.caFile);
  minutePasses();
  assert.deepEqual(await encode(t, address, trusting(strangers.caFile)), [1]);
});

test("a configuration that cannot work is named", () => {
  const notPem = `${house.caFile}.txt`;
  writeFileSync(notPem, "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n");
  const wrong: readonly [env: Env, message: RegExp][] = [
    [{ TESSERA_TLS_CERT: server.certFile }, /TESSERA_TLS_CERT and TESSERA_TLS_KEY must be set together/],
    [{ ...own(server), TESSERA_TLS_KEY: friend.keyFile }, /TESSERA_TLS_CERT and TESSERA_TLS_KEY must hold a certificate in PEM and its key/],
    [trusting(notPem), /TESSERA_TLS_CA must hold certificates in PEM/],
    [trusting("/nowhere"), /TESSERA_TLS_CA must be an existing file/],
    [{ ...own(server), TESSERA_TLS_CLIENTS: "required" }, /needs TESSERA_TLS_CERT, TESSERA_TLS_KEY and a file in TESSERA_TLS_CA/],
    [{ TESSERA_API_KEY: "a key" }, /TESSERA_API_KEY must hold a key of printable ASCII/],
    [{ TESSERA_API_KEY_FILE: "/dev/null" }, /TESSERA_API_KEY_FILE must hold a key/],
    [{ TESSERA_TLS_CLIENTS: "some" }, /TESSERA_TLS_CLIENTS must be one of any, required/],
  ];
  for (const [env, message] of wrong) assert.throws(() => readSecurity(env), { kind: "invalid-request", message });
  assert.deepEqual(readSecurity({}), {});
});
