import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { largestDistance, readGoldenFacts, readGoldens } from "#test/fixtures/goldens.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";
import { TransformerRunner } from "./transformer-runner.js";

/** The limit asked for is 1e-3; float32 in another order of summing stays far below. */
const TOLERANCE = 2e-5;
const ROOM = 40;

interface Sequence {
  readonly ids: readonly number[];
  readonly promptLength: number;
  /** `[length, V]`, positions from 0 and from far out. */
  readonly near: Float32Array;
  readonly far: Float32Array;
}

const sequences: Record<"conditional" | "unconditional", Sequence> = {} as never;
let codebook = 0;
let farStart = 0;
let runner: TransformerRunner;

before(async () => {
  const goldens = await readGoldens();
  const facts = await readGoldenFacts();
  codebook = facts.codebookSize;
  farStart = facts.farStart;
  for (const name of ["conditional", "unconditional"] as const) {
    const [length] = goldens.shape(`${name}.ids`);
    sequences[name] = {
      ids: await goldens.integers(`${name}.ids`, [length]), promptLength: length - 16,
      near: await goldens.floats(`${name}.near.logits`, [length, codebook]),
      far: await goldens.floats(`${name}.far.logits`, [length, codebook]),
    };
  }
  runner = await TransformerRunner.open(await tinyBundle());
});

after(() => runner.close());

/** Rows `from .. to` of `[length, V]`. */
function rows(logits: Float32Array, from: number, to: number): Float32Array {
  return logits.subarray(from * codebook, to * codebook);
}

function rootMeanSquare(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

/** Feed a sequence in windows of the given sizes; the last size repeats. @returns all logits, `[length, V]`. */
async function runInWindows(ids: readonly number[], sizes: readonly number[]): Promise<Float32Array> {
  runner.reset(1, ROOM);
  const logits: number[] = [];
  for (let start = 0, number = 0; start < ids.length; number++) {
    const window = ids.slice(start, start + sizes[Math.min(number, sizes.length - 1)]);
    logits.push(...(await runner.run({ ids: [window], starts: [start] })));
    start += window.length;
  }
  return Float32Array.from(logits);
}

test("a whole sequence over no past at all gives the reference's logits", async () => {
  for (const { ids, near } of Object.values(sequences)) {
    runner.reset(1, 0);
    const distance = largestDistance(await runner.run({ ids: [ids], starts: [0] }), near);
    assert.ok(distance < TOLERANCE, `${distance}`);
  }
});

test("prefill and single steps give the reference's logits", async () => {
  const { ids, promptLength, near } = sequences.conditional;
  const distance = largestDistance(await runInWindows(ids, [promptLength, 1]), near);
  assert.ok(distance < TOLERANCE, `${distance}`);
});

test("windows of any size give the reference's logits", async () => {
  const { ids, near } = sequences.conditional;
  for (const size of [1, 2, 3, 5, 8]) {
    const distance = largestDistance(await runInWindows(ids, [size]), near);
    assert.ok(distance < TOLERANCE, `windows of ${size}: ${distance}`);
  }
});

test("positions beyond 4096 give the reference's logits", async () => {
  const { ids, far } = sequences.conditional;
  runner.reset(1, 0);
  const distance = largestDistance(await runner.run({ ids: [ids], starts: [farStart] }), far);
  // One last bit of an angle near 5000 radians is 5e-4.
  assert.ok(distance < 1e-3, `${distance}`);
});

test("logits_from leaves out the first logits and changes no other", async () => {
  const { ids, near } = sequences.conditional;
  runner.reset(1, 0);
  const logits = await runner.run({ ids: [ids], starts: [0], logitsFrom: ids.length - 2 });
  const distance = largestDistance(logits, rows(near, ids.length - 2, ids.length));
  assert.ok(distance < TOLERANCE, `${distance}`);
});

test("two rows with prompts of different length step as each would alone", async () => {
  const { conditional, unconditional } = sequences;
  const pad = conditional.promptLength - unconditional.promptLength;
  assert.ok(pad > 0);
  // Rows share a window's mask, so the shorter one starts later: its first tokens run while the other's are already there.
  runner.reset(2, ROOM);
  const lead = conditional.ids.slice(0, pad);
  await runner.run({ ids: [lead, lead], starts: [0, 0] });
  runner.forget(1);
  for (let start = 0, size = 3; start < unconditional.ids.length; start += size, size = 1) {
    const windows = [conditional.ids.slice(pad + start, pad + start + size), unconditional.ids.slice(start, start + size)];
    const logits = await runner.run({ ids: windows, starts: [pad + start, start] });
    const first = largestDistance(rows(logits, 0, size), rows(conditional.near, pad + start, pad + start + size));
    const second = largestDistance(rows(logits, size, 2 * size), rows(unconditional.near, start, start + size));
    assert.ok(Math.max(first, second) < TOLERANCE, `at ${start}: ${first}, ${second}`);
  }
});

for (const weights of ["fp16", "int8"] as const) {
  test(`${weights} weights stay near the reference`, async (t) => {
    const narrow = await TransformerRunner.open(await tinyBundle(weights));
    try {
      narrow.reset(1, 0);
      const { ids, near } = sequences.conditional;
      const logits = await narrow.run({ ids: [ids], starts: [0] });
      const error = rootMeanSquare(logits.map((value, index) => value - near[index])) / rootMeanSquare(near);
      const largest = largestDistance(logits, near).toExponential(2);
      t.diagnostic(`${weights}: error ${error.toExponential(2)} of the logits' size, largest distance ${largest}`);
      assert.ok(error < { fp16: 2e-3, int8: 6e-2 }[weights], `${error}`);
    } finally {
      await narrow.close();
    }
  });
}
