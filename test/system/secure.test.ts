import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { freePorts } from "#libs/cli/free-ports.js";
import { ServiceProcess, type ServiceName } from "#libs/cli/service-process.js";
import type { Env } from "#libs/config/env.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import { certificateAuthority } from "#test/doubles/certificates.js";
import { runCommandLine } from "#test/doubles/run-command.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

const STOP_GRACE_MS = 10_000;

interface House {
  readonly folder: string;
  readonly caFile: string;
  readonly decoder: string;
  /** Where the decoder's probes ask. */
  readonly health: string;
  readonly clientEnv: Env;
}

/** A key made by the command that operators use. */
async function makeKey(name: string, ...more: readonly string[]): Promise<{ readonly key: string; readonly entry: unknown }> {
  const { stdout } = await runCommandLine("key", [name, ...more]);
  const [key, entry] = stdout.trim().split("\n");
  return { key, entry: JSON.parse(entry) };
}

/** All three services as processes that show certificates and keys to each other, as deploy/ sets them up. */
async function startHouse(t: TestContext): Promise<House> {
  const folder = mkdtempSync(join(tmpdir(), "tessera-house-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const { caFile, issue } = certificateAuthority("house");
  const keys = {
    web: await makeKey("web", "decoder", "--calls-per-minute", "2"),
    decoder: await makeKey("decoder", "generator"), generator: await makeKey("generator", "tokenizer"),
  };
  const keysFile = join(folder, "keys.json");
  writeFileSync(keysFile, JSON.stringify({ keys: Object.values(keys).map(({ entry }) => entry) }));
  const [tokenizer, generator, decoder, health] = (await freePorts(4)).map((port) => `localhost:${port}`);
  const start = async (name: ServiceName, env: Env) => {
    const { certFile, keyFile } = issue(name);
    const service = await ServiceProcess.start(name, {
      env: {
        TESSERA_BUNDLE: await tinyBundle(), TESSERA_LOG_LEVEL: "warn", TESSERA_API_KEYS: keysFile, TESSERA_TLS_CA: caFile,
        TESSERA_TLS_CERT: certFile, TESSERA_TLS_KEY: keyFile, TESSERA_TLS_CLIENTS: "required", ...env,
      },
    });
    t.after(() => service.stop(STOP_GRACE_MS));
  };
  await start("tokenizer", { TESSERA_ADDRESS: tokenizer });
  await start("generator", { TESSERA_ADDRESS: generator, TESSERA_TOKENIZER_ADDRESS: tokenizer, TESSERA_API_KEY: keys.generator.key });
  await start("decoder", {
    TESSERA_ADDRESS: decoder, TESSERA_GENERATOR_ADDRESS: generator, TESSERA_API_KEY: keys.decoder.key, TESSERA_HEALTH_ADDRESS: health,
  });
  const { certFile, keyFile } = issue("client");
  return { folder, caFile, decoder, health, clientEnv: { TESSERA_TLS_CERT: certFile, TESSERA_TLS_KEY: keyFile, TESSERA_API_KEY: keys.web.key } };
}

test("with mutual TLS and keys on every hop, the command makes its picture, and only for whom it is", async (t) => {
  const { folder, caFile, decoder, health, clientEnv } = await startHouse(t);
  const file = join(folder, "dog.png");
  const generate = (env: Env, ...more: readonly string[]) =>
    runCommandLine("generate", ["a dog", "--target", decoder, "--out", file, "--json", ...more], { env });

  const made = await generate(clientEnv, "--tls-ca", caFile);
  assert.equal(made.code, 0, made.stderr);
  assert.equal(JSON.parse(made.stdout.trimEnd().split("\n").at(-1)!).file, file);

  const { TESSERA_API_KEY: key, ...noKey } = clientEnv;
  const keyless = await generate(noKey, "--tls-ca", caFile);
  assert.deepEqual([keyless.code, /a key is needed/.test(keyless.stderr)], [1, true], keyless.stderr);
  const clear = await generate({ TESSERA_API_KEY: key });
  assert.deepEqual([clear.code, /cannot be reached/.test(clear.stderr)], [1, true], clear.stderr);

  assert.equal((await generate(clientEnv, "--tls-ca", caFile)).code, 0);
  const often = await generate(clientEnv, "--tls-ca", caFile);
  assert.deepEqual([often.code, /may make 2 calls a minute/.test(often.stderr)], [1, true], often.stderr);
  for (const { stderr } of [keyless, clear, often]) assert.ok(!stderr.includes(key!));

  const probe = openHealthProbe(health, "live");
  t.after(() => probe.close());
  assert.equal(await probe.check(), "serving");
});
