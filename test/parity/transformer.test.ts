import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openTokenBundle } from "#libs/bundle/bundle.js";
import type { WeightType } from "#libs/bundle/manifest.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { largestDistance, readGoldenFacts, readGoldens } from "#test/fixtures/goldens.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

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
  runner = await openRunner("fp32");
});

after(() => runner.close());

async function openRunner(weights: WeightType): Promise<TransformerRunner> {
  const { manifest, path } = await openTokenBundle(await tinyBundle(weights));
  return TransformerRunner.open(path(manifest.transformer.file), manifest.transformer);
}

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
    logits.push(...(await runner.run({ ids: [window] })));
    start += window.length;
  }
  return Float32Array.from(logits);
}

test("a whole sequence over no past at all gives the reference's logits", async () => {
  for (const { ids, near } of Object.values(sequences)) {
    runner.reset(1, 0);
    const distance = largestDistance(await runner.run({ ids: [ids] }), near);
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
  const logits = await runner.run({ ids: [ids], logitsFrom: ids.length - 2 });
  const distance = largestDistance(logits, rows(near, ids.length - 2, ids.length));
  assert.ok(distance < TOLERANCE, `${distance}`);
});

test("two rows with prompts of different length step as each would alone", async () => {
  const pair = [sequences.conditional, sequences.unconditional];
  assert.notEqual(pair[0].promptLength, pair[1].promptLength);
  runner.reset(2, ROOM);
  for (const [firstRow, { ids, promptLength, near }] of pair.entries()) {
    const logits = await runner.run({ firstRow, ids: [ids.slice(0, promptLength)] });
    assert.ok(largestDistance(logits, rows(near, 0, promptLength)) < TOLERANCE);
  }
  const after = pair.map(({ promptLength }) => promptLength);
  for (let start = 0; start < 16; start += 4) {
    const windows = pair.map(({ ids }, row) => ids.slice(after[row] + start, after[row] + start + 4));
    const logits = await runner.run({ ids: windows });
    for (const [row, { near }] of pair.entries()) {
      const expected = rows(near, after[row] + start, after[row] + start + 4);
      const distance = largestDistance(rows(logits, 4 * row, 4 * row + 4), expected);
      assert.ok(distance < TOLERANCE, `row ${row} at ${start}: ${distance}`);
    }
  }
});

test("a row that takes positions back and feeds them again gives the same logits", async () => {
  const { ids, near } = sequences.conditional;
  runner.reset(1, ROOM);
  await runner.run({ ids: [ids.slice(0, 12)] });
  runner.resize(0, 7);
  const distance = largestDistance(await runner.run({ ids: [ids.slice(7, 12)] }), rows(near, 7, 12));
  assert.ok(distance < TOLERANCE, `${distance}`);
});

test("int8 rows are the same to the last bit whatever runs beside them", async () => {
  const quantized = await openRunner("int8");
  try {
    const [{ ids: one }, { ids: other }] = [sequences.conditional, sequences.unconditional];
    quantized.reset(1, 0);
    const alone = await quantized.run({ ids: [one.slice(0, 8)] });
    quantized.reset(2, 0);
    const beside = await quantized.run({ ids: [one.slice(0, 8), other.slice(0, 8)] });
    assert.deepEqual(rows(beside, 0, 8), alone);
  } finally {
    await quantized.close();
  }
});

for (const weights of ["fp16", "int8", "int4"] as const) {
  test(`${weights} weights stay near the reference`, async (t) => {
    const narrow = await openRunner(weights);
    try {
      narrow.reset(1, 0);
      const { ids, near } = sequences.conditional;
      const logits = await narrow.run({ ids: [ids] });
      const error = rootMeanSquare(logits.map((value, index) => value - near[index])) / rootMeanSquare(near);
      const largest = largestDistance(logits, near).toExponential(2);
      t.diagnostic(`${weights}: error ${error.toExponential(2)} of the logits' size, largest distance ${largest}`);
      assert.ok(error < { fp16: 2e-3, int8: 6e-2, int4: 0.5 }[weights], `${error}`);
    } finally {
      await narrow.close();
    }
  });
}
