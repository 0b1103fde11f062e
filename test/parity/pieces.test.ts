import assert from "node:assert/strict";
import { test } from "node:test";
import { linear } from "#libs/onnx/linear.js";
import { largestDistance } from "#test/fixtures/goldens.js";
import { noise, withPiece } from "#test/fixtures/piece.js";

for (const weights of ["fp32", "fp16", "int8", "int4"] as const) {
  test(`a ${weights} linear layer gives a row the same bits whatever rows stand beside it`, async () => {
    const [rows, columns] = [50, 72]; // Not a multiple of the int4 block.
    const layer = { weight: noise([rows, columns], "weight").data, bias: noise([rows], "bias").data, rows, columns };
    const { data: x } = noise([17, columns], "x");
    await withPiece([["M", columns]], (graph, value) => linear(graph, value, layer, weights), async (piece) => {
      const first = (count: number): Promise<Float32Array> => piece.run({ data: x.subarray(0, count * columns), dims: [count, columns] });
      const alone = await first(1);
      // The kernel of int4 sums two rows at once in another order than a last odd one.
      const least = weights === "int4" ? (await first(2)).slice(0, rows) : alone;
      for (const count of weights === "int4" ? [4, 8, 16] : [2, 3, 8, 17]) {
        assert.deepEqual((await first(count)).slice(0, rows), least, `${count} rows`);
      }
      const expected = Array.from({ length: rows }, (_, row) =>
        layer.bias[row] + Array.from({ length: columns }, (_, k) => layer.weight[row * columns + k] * x[k]).reduce((a, b) => a + b));
      assert.ok(largestDistance(alone, expected) < { fp32: 1e-5, fp16: 5e-3, int8: 0.1, int4: 1 }[weights]);
    });
  });
}

test("int8 products of the largest bytes are exact, whatever kernel the processor has for so many rows", async () => {
  const [rows, columns] = [64, 1000];
  // Signs that agree in every pair: what 16 bits cannot hold.
  const sign = (row: number, column: number): number => ((row + (column >> 2)) % 3 === 0 ? -1 : 1);
  const layer = { weight: Float32Array.from({ length: rows * columns }, (_, i) => sign(Math.floor(i / columns), i % columns)), rows, columns };
  await withPiece([["M", columns]], (graph, value) => linear(graph, value, layer, "int8"), async (piece) => {
    for (const count of [1, 2, 8, 33, 70]) {
      const x = Float32Array.from({ length: count * columns }, (_, i) => sign(Math.floor(i / columns) + 1, i % columns));
      const product = await piece.run({ data: x, dims: [count, columns] });
      const expected = Array.from({ length: count * rows }, (_, at) => {
        const [row, output] = [Math.floor(at / rows), at % rows];
        return Array.from({ length: columns }, (_, k) => sign(row + 1, k) * sign(output, k)).reduce((a, b) => a + b);
      });
      assert.ok(largestDistance(product, expected) < 1e-3, `${count} rows`);
    }
  });
});
