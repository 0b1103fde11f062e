import assert from "node:assert/strict";
import { test } from "node:test";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { fsqCodes } from "#libs/onnx/fsq-codes.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { groupNorm } from "#libs/onnx/group-norm.js";
import { inverseHaar } from "#libs/onnx/haar.js";
import { linear } from "#libs/onnx/linear.js";
import { upsampleNearest } from "#libs/onnx/upsample.js";
import { openUniform, philox4x32 } from "#libs/random/philox.js";
import { largestDistance } from "#test/fixtures/goldens.js";

const OPTIONS = { executionProviders: ["cpu"], intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 } as const;

/** Load a graph of one piece from float32 `x` to `y`. The caller releases it. */
function piece(dims: readonly (number | string)[], add: (graph: Graph, x: Value) => Value): Promise<InferenceSession> {
  const graph = new Graph("piece");
  const x = graph.input("x", "float32", dims);
  graph.output("y", add(graph, x), "float32", dims.map((_, axis) => `y${axis}`));
  return InferenceSession.create(graph.toBytes(), OPTIONS);
}

async function run(session: InferenceSession, x: Float32Array, dims: readonly number[]): Promise<Float32Array> {
  const { y } = await session.run({ x: new Tensor("float32", x, dims) });
  return y.data as Float32Array;
}

/** Uniform in -1 .. 1, the same on every machine. */
function noise(length: number, key: number): Float32Array {
  const words = new Uint32Array(4);
  return Float32Array.from({ length }, (_, index) => {
    philox4x32(index, 0, 0, 0, key, 0, words);
    return 2 * openUniform(words[0]) - 1;
  });
}

test("group norm stays within 1e-5 on a large plane whose mean is five deviations away from zero", async () => {
  const [channels, pixels, offset] = [64, 192 * 192, 3];
  const x = noise(channels * pixels, 1).map((value) => value + offset);
  const weight = noise(channels, 2);
  const bias = noise(channels, 3);
  const session = await piece([1, channels, "h", "w"], (graph, value) => groupNorm(graph, value, weight, bias, 32, 1e-6));
  try {
    const y = await run(session, x, [1, channels, 192, 192]);
    for (let group = 0; group < 32; group++) {
      const start = group * 2 * pixels;
      const values = Float64Array.from(x.subarray(start, start + 2 * pixels));
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
      const expected = values.map((value, index) => {
        const channel = group * 2 + Math.floor(index / pixels);
        return ((value - mean) / Math.sqrt(variance + 1e-6)) * weight[channel] + bias[channel];
      });
      const distance = largestDistance(y.subarray(start, start + 2 * pixels), expected);
      assert.ok(distance < 1e-5, `group ${group}: ${distance}`);
    }
  } finally {
    await session.release();
  }
});

test("the inverse Haar transform is the sum over its four bands", async () => {
  const [colours, height, width] = [3, 2, 5];
  const bands = noise(4 * colours * height * width, 4);
  const session = await piece([1, 4 * colours, "h", "w"], inverseHaar);
  try {
    const y = await run(session, bands, [1, 4 * colours, height, width]);
    const expected = Array.from({ length: colours * 4 * height * width }, (_, index) => {
      const colour = Math.floor(index / (4 * height * width));
      const [row, column] = [Math.floor(index / (2 * width)) % (2 * height), index % (2 * width)];
      let sum = 0;
      for (let band = 0; band < 4; band++) {
        const [highWidth, highHeight] = [band >> 1, band & 1];
        const sign = (-1) ** ((row % 2) * highHeight + (column % 2) * highWidth);
        sum += sign * bands[((band * colours + colour) * height + (row >> 1)) * width + (column >> 1)];
      }
      return sum;
    });
    assert.ok(largestDistance(y, expected) < 1e-6);
  } finally {
    await session.release();
  }
});

test("nearest upsampling makes squares of four", async () => {
  const session = await piece([1, 1, "h", "w"], upsampleNearest);
  try {
    assert.deepEqual([...(await run(session, Float32Array.of(1, 2), [1, 1, 1, 2]))], [1, 1, 2, 2, 1, 1, 2, 2]);
  } finally {
    await session.release();
  }
});

test("codes of the Cosmos codebook come out channel first", async () => {
  const graph = new Graph("codes");
  graph.output("y", fsqCodes(graph, graph.input("x", "int64", [1, 1, 2]), [8, 8, 8, 5, 5, 5]), "float32", [1, 6, 1, 2]);
  const session = await InferenceSession.create(graph.toBytes(), OPTIONS);
  try {
    const { y } = await session.run({ x: new Tensor("int64", BigInt64Array.of(12345n, 54321n), [1, 1, 2]) });
    assert.deepEqual([...(y.data as Float32Array)], [-0.75, -0.75, 0.75, 0.5, -1, -1, 1, -0.5, 1, -0.5, -1, 1]);
  } finally {
    await session.release();
  }
});

for (const weights of ["fp32", "fp16", "int8", "int4"] as const) {
  test(`a ${weights} linear layer gives a row the same bits whatever rows stand beside it`, async () => {
    const [rows, columns] = [50, 72]; // Not a multiple of the int4 block.
    const layer = { weight: noise(rows * columns, 5), bias: noise(rows, 6), rows, columns };
    const session = await piece(["M", columns], (graph, x) => linear(graph, x, layer, weights));
    try {
      const x = noise(17 * columns, 7);
      const alone = (await run(session, x.subarray(0, columns), [1, columns])).slice();
      // The kernel of int4 sums two rows at once in another order than a last odd one.
      const least = weights === "int4" ? (await run(session, x.subarray(0, 2 * columns), [2, columns])).slice(0, rows) : alone;
      for (const count of weights === "int4" ? [4, 8, 16] : [2, 3, 8, 17]) {
        const together = await run(session, x.subarray(0, count * columns), [count, columns]);
        assert.deepEqual(together.slice(0, rows), least, `${count} rows`);
      }
      const expected = Array.from({ length: rows }, (_, row) =>
        layer.bias[row] + Array.from({ length: columns }, (_, k) => layer.weight[row * columns + k] * x[k]).reduce((a, b) => a + b));
      assert.ok(largestDistance(alone, expected) < { fp32: 1e-5, fp16: 5e-3, int8: 0.1, int4: 1 }[weights]);
    } finally {
      await session.release();
    }
  });
}
