import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Worker } from "node:worker_threads";
import { Graph } from "#libs/onnx/graph.js";
import { OnnxSession, type TensorMap } from "#libs/onnx/session.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-session-"));
const doubling = join(folder, "doubling.onnx");
const slow = join(folder, "slow.onnx");
const broken = join(folder, "broken.onnx");
writeFileSync(doubling, doublingGraph());
writeFileSync(slow, slowGraph());
writeFileSync(broken, "not a graph");
after(() => rmSync(folder, { recursive: true }));

/** `double` = x + x, `same` = x. */
function doublingGraph(): Uint8Array {
  const graph = new Graph("doubling");
  const x = graph.input("x", "float32", ["n"]);
  graph.output("double", graph.op("Add", [x, x]), "float32", ["n"]);
  graph.output("same", x, "float32", ["n"]);
  return graph.toBytes();
}

/** x [n, n] times itself six times: tens of milliseconds at n = 512. */
function slowGraph(): Uint8Array {
  const graph = new Graph("slow");
  const x = graph.input("x", "float32", ["n", "n"]);
  let y = x;
  for (let i = 0; i < 6; i++) y = graph.op("MatMul", [y, x]);
  graph.output("y", y, "float32", ["n", "n"]);
  return graph.toBytes();
}

const vector = (...values: readonly number[]): TensorMap =>
  ({ x: { type: "float32", dims: [values.length], data: Float32Array.from(values) } });
const slowFeeds = (): TensorMap => ({ x: { type: "float32", dims: [512, 512], data: new Float32Array(512 * 512) } });

async function withSession(path: string, body: (session: OnnxSession) => Promise<void>): Promise<void> {
  const session = await OnnxSession.open(path);
  try {
    await body(session);
  } finally {
    await session.close();
  }
}

test("runs a graph and tells its inputs and outputs", () => withSession(doubling, async (session) => {
  assert.deepEqual(session.inputs.map((input) => input.name), ["x"]);
  assert.deepEqual(session.outputs.map((output) => output.name), ["double", "same"]);
  const { double, same } = await session.run(vector(1, -2));
  assert.deepEqual(double, { type: "float32", dims: [2], data: Float32Array.of(2, -4) });
  assert.deepEqual(same.data, Float32Array.of(1, -2));
}));

test("threads that stay awake compute the same", async () => {
  const feeds: TensorMap = { x: { type: "float32", dims: [64, 64], data: Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i) / 8) } };
  const outputs = [];
  for (const options of [{}, { threads: 2 }, { threads: 2, spin: true }]) {
    const session = await OnnxSession.open(slow, options);
    outputs.push((await session.run(feeds)).y.data);
    await session.close();
  }
  assert.deepEqual(outputs[2], outputs[1]);
  assert.deepEqual(outputs[1], outputs[0]);
});

test("fetches only the wanted outputs", () => withSession(doubling, async (session) => {
  assert.deepEqual(Object.keys(await session.run(vector(1), ["same"])), ["same"]);
}));

test("the caller keeps its feeds, a view is copied alone, and they move only when it says so", () =>
  withSession(doubling, async (session) => {
    const whole = Float32Array.of(9, 1, 2, 9);
    const view = whole.subarray(1, 3);
    const running = session.run({ x: { type: "float32", dims: [2], data: view } });
    view.fill(0);
    assert.deepEqual((await running).double.data, Float32Array.of(2, 4));
    assert.deepEqual(whole, Float32Array.of(9, 0, 0, 9));
    const feeds = vector(5);
    const moved = await session.run(feeds, undefined, { transferFeeds: true });
    assert.deepEqual(moved.double.data, Float32Array.of(10));
    assert.equal(feeds.x.data.length, 0);
  }));

test("runs happen in the order of their calls", () => withSession(doubling, async (session) => {
  const finished: number[] = [];
  await Promise.all([3, 1, 2].map(async (value) => {
    await session.run(vector(value));
    finished.push(value);
  }));
  assert.deepEqual(finished, [3, 1, 2]);
}));

test("the event loop turns while the graph runs", () => withSession(slow, async (session) => {
  let turns = 0;
  let done = false;
  const turn = (): void => {
    turns++;
    if (!done) setImmediate(turn);
  };
  setImmediate(turn);
  await session.run(slowFeeds());
  done = true;
  assert.ok(turns > 50, `${turns} turns of the event loop during one run`);
}));

test("an abort takes a waiting run out of the line and leaves the others alone", () => withSession(slow, async (session) => {
  const abort = new AbortController();
  const reason = new Error("changed my mind");
  const first = session.run(slowFeeds());
  const second = session.run(slowFeeds(), undefined, { signal: abort.signal });
  const third = session.run(slowFeeds());
  abort.abort(reason);
  await assert.rejects(second, (error) => error === reason);
  assert.deepEqual((await first).y.dims, [512, 512]);
  assert.deepEqual((await third).y.dims, [512, 512]);
  await assert.rejects(session.run(slowFeeds(), undefined, { signal: abort.signal }), (error) => error === reason);
}));

test("an abort stops the wait for a run under way, and the next run gets its own outputs", () =>
  withSession(doubling, async (session) => {
    const abort = new AbortController();
    const first = session.run(vector(1), undefined, { signal: abort.signal });
    abort.abort();
    await assert.rejects(first, { name: "AbortError" });
    assert.deepEqual((await session.run(vector(4))).double.data, Float32Array.of(8));
  }));

test("a run that the graph refuses fails alone", () => withSession(doubling, async (session) => {
  const refused: TensorMap = { x: { type: "int64", dims: [1], data: BigInt64Array.of(1n) } };
  await assert.rejects(session.run(refused), { kind: "internal" });
  await assert.rejects(session.run({}), { kind: "internal" });
  assert.deepEqual((await session.run(vector(1))).double.data, Float32Array.of(2));
}));

test("a file that is missing or no graph, and a provider or thread count that cannot be, are named", async () => {
  const refusals: readonly [() => Promise<OnnxSession>, string, RegExp][] = [
    [() => OnnxSession.open(join(folder, "none.onnx")), "not-found", /none\.onnx does not exist/],
    [() => OnnxSession.open(broken), "internal", /broken\.onnx cannot be loaded/],
    [() => OnnxSession.open(doubling, { threads: 0 }), "invalid-request", /`threads` must be a whole number >= 1, got 0/],
    [() => OnnxSession.open(doubling, { provider: "tpu" as "cpu" }), "invalid-request", /`provider` must be one of cpu, cuda, got "tpu"/],
  ];
  for (const [open, kind, message] of refusals) {
    await assert.rejects(open, { name: "AppError", kind, message });
  }
});

test("a dead thread rejects every pending run and says so", async () => {
  const started = new Promise<Worker>((resolve) => process.once("worker", resolve));
  const session = await OnnxSession.open(slow);
  // The thread dies of a message that it cannot read, before it comes to the runs.
  (await started).postMessage(null);
  const runs = [session.run(slowFeeds()), session.run(slowFeeds())];
  await Promise.all(runs.map((run) => assert.rejects(run, { kind: "internal", message: /slow\.onnx died/ })));
  assert.match((await session.ended)?.message ?? "", /slow\.onnx died/);
  assert.equal(session.alive, false);
  await assert.rejects(session.run(slowFeeds()), /slow\.onnx died/);
  await session.close();
});

test("close ends the thread, rejects pending runs and may be called again", async () => {
  const session = await OnnxSession.open(slow);
  const rejected = assert.rejects(session.run(slowFeeds()), { kind: "not-ready" });
  await Promise.all([session.close(), session.close()]);
  await session.close();
  await rejected;
  assert.equal(await session.ended, undefined);
  assert.equal(session.alive, false);
  await assert.rejects(session.run(slowFeeds()), { kind: "not-ready" });
});
