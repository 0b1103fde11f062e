import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import { notReady, overloaded } from "#libs/errors/errors.js";
import { FakeGenerator, tokenChunk } from "#test/doubles/fake-generator.js";
import { runCommandLine } from "#test/doubles/run-command.js";
import { startTestStack } from "#test/doubles/start-stack.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

const CONSUMER = fileURLToPath(new URL("../../../libs/clients/token_consumer.py", import.meta.url));

const PROTO = fileURLToPath(new URL("../../../proto", import.meta.url));

/** A Python that speaks gRPC, and modules made of our proto for it: by its own tools, or by protoc and its plugin. */
function pythonWithModules(t: TestContext): { readonly command: string; readonly path: string } | undefined {
  const path = mkdtempSync(join(tmpdir(), "tessera-python-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  const files = ["generator", "types"].map((name) => `${PROTO}/tessera/v1/${name}.proto`);
  const outputs = [`-I${PROTO}`, `--python_out=${path}`, `--grpc_python_out=${path}`, ...files];
  for (const command of ["python3", "/usr/bin/python3"]) {
    if (!succeeds(command, ["-c", "import grpc, google.protobuf, google.rpc.error_details_pb2"])) continue;
    const isMade = succeeds(command, ["-m", "grpc_tools.protoc", ...outputs])
      || succeeds("protoc", ["--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", ...outputs]);
    if (isMade) return { command, path };
  }
  return undefined;
}

function succeeds(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

interface Part { readonly image: number; readonly offset: number; readonly tokens: readonly number[] }

/** The tokens of image 0 from a consumer's lines, checked to have no gaps. */
function tokensOf(output: string): readonly number[] {
  const tokens: number[] = [];
  for (const line of output.trim().split("\n")) {
    const part = JSON.parse(line) as Part;
    assert.deepEqual([part.image, part.offset], [0, tokens.length]);
    tokens.push(...part.tokens);
  }
  return tokens;
}

test("the consumers in TypeScript and Python print the same tokens", async (t) => {
  const stack = await startTestStack();
  t.after(() => stack.stop());
  const { address } = stack.stack.generator;
  const { code, stdout, stderr } = await runCommandLine("tokens", ["a dog", "--target", address, "--seed", "7"]);
  assert.equal(code, 0, stderr);
  const tokens = tokensOf(stdout);
  assert.ok(tokens.length >= 16);

  const python = pythonWithModules(t);
  await t.test("in Python", { skip: python === undefined && "not run: no Python with grpcio, or nothing to make its modules" }, async () => {
    const child = spawn(python!.command, [CONSUMER, address, "a dog", "7"], {
      stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PYTHONPATH: python!.path },
    });
    const [printed, errors, [exitCode]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    assert.equal(exitCode, 0, errors);
    assert.deepEqual(tokensOf(printed), tokens);
  });
});

test("the consumer in Python waits as long as it is told to, and goes on behind its tokens", async (t) => {
  const python = pythonWithModules(t);
  if (python === undefined) return t.skip("no Python with grpcio, or nothing to make its modules");
  const fake = new FakeGenerator(await openTokenBundle(await tinyBundle()));
  const server = await fake.start();
  t.after(() => server.stop(0));
  let calls = 0;
  fake.script = async function* (request) {
    calls++;
    if (calls === 1) {
      yield fake.started(7n);
      yield tokenChunk(0, 0, fake.tokensOf(0).slice(0, 5));
      throw notReady("lost");
    }
    // More often than a call is made again that is told nothing.
    if (calls < 12) throw overloaded("the queue is full", 1);
    yield* fake.drawn(request);
  };
  const child = spawn(python.command, [CONSUMER, server.address, "a dog", "7"], {
    stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PYTHONPATH: python.path },
  });
  const [printed, errors, [exitCode]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  assert.equal(exitCode, 0, errors);
  assert.deepEqual(tokensOf(printed), fake.tokensOf(0));
  assert.equal(calls, 12);
});
