import assert from "node:assert/strict";
import { createServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { AppError } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { openHealthProbe } from "#libs/rpc/health.js";
import { runProcess, startProcess } from "#test/doubles/service-process.js";

const HOP = new URL("../doubles/hop.js", import.meta.url);

/** A tokenizer and a generator in processes, and a call to the generator whose first message has arrived. */
async function startStream(t: TestContext, mode: string) {
  const tokenizer = await startProcess(t, HOP, { args: ["tokenizer", "answer"] });
  const generator = await startProcess(t, HOP, { args: ["generator", mode, tokenizer.address] });
  const { client, close } = connect(GeneratorService, generator.address);
  t.after(close);
  const stream = client.generate({ generation: { prompt: "a red apple" } })[Symbol.asyncIterator]();
  const first = await stream.next();
  assert.equal(first.value.event.case, "queued");
  return { generator, stream };
}

function kindOf(error: unknown): string {
  return AppError.from(error).kind;
}

test("SIGTERM lets an open stream finish and exits 0", async (t) => {
  const { generator, stream } = await startStream(t, "drain");
  const ended = generator.stop("SIGTERM");
  assert.equal((await stream.next()).value.event.case, "started");
  assert.equal((await stream.next()).done, true);
  assert.equal(await ended, 0);
  assert.equal(generator.stderr, "");
});

test("a service whose log nobody reads any more drains as any other", async (t) => {
  const env = { TESSERA_LOG_LEVEL: "info" };
  const tokenizer = await startProcess(t, HOP, { args: ["tokenizer", "answer"] });
  const generator = await startProcess(t, HOP, { args: ["generator", "drain", tokenizer.address], env });
  const { client, close } = connect(GeneratorService, generator.address);
  t.after(close);
  const stream = client.generate({ generation: { prompt: "a red apple" } })[Symbol.asyncIterator]();
  await stream.next();
  generator.child.stderr!.destroy();
  const ended = generator.stop("SIGTERM");
  assert.equal((await stream.next()).value.event.case, "started");
  assert.equal((await stream.next()).done, true);
  assert.equal(await ended, 0);
});

test("a second signal exits at once", async (t) => {
  const { generator, stream } = await startStream(t, "wait");
  const probe = openHealthProbe(generator.address);
  t.after(probe.close);
  generator.child.kill("SIGINT");
  while (await probe.check() === "serving");
  assert.equal(await generator.stop("SIGINT"), "SIGINT");
  await assert.rejects(stream.next(), (error) => kindOf(error) === "not-ready");
});

test("a peer that dies in the middle of a stream is not ready", async (t) => {
  const { generator, stream } = await startStream(t, "wait");
  assert.equal(await generator.stop("SIGKILL"), "SIGKILL");
  await assert.rejects(stream.next(), (error) => kindOf(error) === "not-ready");
});

test("a service that cannot start says why in one line and exits 1", async (t) => {
  const { ending, stderr } = await runProcess(t, HOP, { args: ["tokenizer", "fail"] });
  assert.equal(ending, 1);
  assert.equal(stderr, "tokenizer: `file` must be the tokenizer's own\n");
});

test("a port that is taken is named", async (t) => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  t.after(() => taken.close());
  const address = `127.0.0.1:${(taken.address() as AddressInfo).port}`;
  const { ending, stderr } = await runProcess(t, HOP, { args: ["tokenizer", "answer", "", address] });
  assert.equal(ending, 1);
  assert.match(stderr, new RegExp(`^tokenizer: cannot listen on ${address}: .*EADDRINUSE.*\n$`));
});
