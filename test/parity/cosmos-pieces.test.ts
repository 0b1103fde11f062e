import assert from "node:assert/strict";
import { test } from "node:test";
import { fuse, lastFrameOutputs, stillInputs } from "#libs/convert/cosmos-collapse.js";
import { codeBounds, codeTable } from "#libs/fsq/fsq.js";
import { conv2d, halvingConv2d, type ConvWeights } from "#libs/onnx/conv2d.js";
import { fsqCodes, fsqTokens } from "#libs/onnx/fsq-codes.js";
import { haar, inverseHaar } from "#libs/onnx/haar.js";
import { planeAttention } from "#libs/onnx/plane-attention.js";
import { upsampleNearest } from "#libs/onnx/upsample.js";
import { largestDistance } from "#test/fixtures/goldens.js";
import { noise, withPiece, type Plane } from "#test/fixtures/piece.js";
import { measureGroupNorm } from "./norm-distance.js";

const COSMOS = [8, 8, 8, 5, 5, 5];

/** A convolution of noise with a bias that is not zero. */
function noisyConv(inputs: number, outputs: number, size: number, name: string): ConvWeights {
  const { data: weight } = noise([outputs, inputs, size, size], `${name}.weight`);
  return { weight, bias: noise([outputs], `${name}.bias`).data, inputs, outputs, size };
}

/** Zero but for one channel of one pixel. */
function oneHot(dims: readonly number[], at: number): Plane {
  const data = new Float32Array(dims.reduce((product, size) => product * size, 1));
  data[at] = 1;
  return { data, dims };
}

test("latents become the tokens that the published quantizer makes of them", async () => {
  const known = [[0, 32036], [10, 63999], [-10, 0], [0.3, 47981], [-0.3, 16091]] as const;
  await withPiece([["B", 6, "h", "w"]], (graph, x) => fsqTokens(graph, x, COSMOS), async (piece) => {
    for (const [value, token] of known) {
      const data = new Float32Array(6).fill(value);
      assert.deepEqual([...(await piece.run({ data, dims: [1, 6, 1, 1] }))], [token], `${value}`);
    }
  }, "int64");
});

test("every token of the Cosmos codebook comes back from a latent of its codes", async () => {
  const table = codeTable(COSMOS);
  const data = new Float32Array(6 * 64000);
  for (let index = 0; index < data.length; index++) {
    const [channel, token] = [Math.floor(index / 64000), index % 64000];
    const { shift, half, offset } = codeBounds(COSMOS[channel]);
    const rounded = table[token * 6 + channel] * Math.floor(COSMOS[channel] / 2);
    data[index] = Math.atanh((rounded + offset) / half) - shift;
  }
  const tokens = await withPiece([["B", 6, "h", "w"]], (graph, x) => fsqTokens(graph, x, COSMOS),
    (piece) => piece.run({ data, dims: [1, 6, 250, 256] }), "int64");
  assert.deepEqual([...tokens], Array.from({ length: 64000 }, (_, token) => token));
});

test("tokens become their codes, and one outside the codebook is refused, from either end", async () => {
  // Whole numbers come in as floats here and are cast.
  const add: Parameters<typeof withPiece>[1] = (graph, x) => fsqCodes(graph, graph.op("Cast", [x], { to: 7 }), COSMOS);
  await withPiece([["B", "h", "w"]], add, async (piece) => {
    const codes = await piece.run({ data: Float32Array.of(12345, 54321), dims: [1, 1, 2] });
    assert.deepEqual([...codes], [-0.75, -0.75, 0.75, 0.5, -1, -1, 1, -0.5, 1, -0.5, -1, 1]); // channel first
    for (const token of [64000, -1, -64000]) {
      await assert.rejects(piece.run({ data: Float32Array.of(token), dims: [1, 1, 1] }), /out of data bounds/, `${token}`);
    }
  });
});

test("each band of an image becomes its own pattern: width first", async () => {
  await withPiece([["B", 4, "h", "w"]], inverseHaar, async (piece) => {
    const patterns = [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]; // low, high along h, along w, along both
    for (const [band, pattern] of patterns.entries()) {
      assert.deepEqual([...(await piece.run(oneHot([1, 4, 1, 1], band)))], pattern, `${band}`);
    }
  });
});

test("patches come back from their bands, and a plain image has only low ones", async () => {
  const dims = [2, 3, 6, 10];
  await withPiece([["B", 3, "h", "w"]], (graph, x) => inverseHaar(graph, haar(graph, x)), async (piece) => {
    const image = noise(dims, "image");
    assert.ok(largestDistance(await piece.run(image), image.data) < 1e-6);
  });
  await withPiece([["B", 1, "h", "w"]], haar, async (piece) => {
    const bands = await piece.run({ data: new Float32Array(24).fill(0.5), dims: [1, 1, 4, 6] });
    assert.deepEqual([...bands], [...new Float32Array(6).fill(0.5), ...new Float32Array(18)]);
  });
});

/** Bits of a video band at one level. */
const bitsOf = (digit: number): readonly [t: number, h: number, w: number] => [digit >> 2, (digit >> 1) & 1, digit & 1];

test("each band of video becomes its own pattern in the last frame: time, height, width", async () => {
  const identity = { weight: new Float32Array(64 * 64), bias: new Float32Array(64), inputs: 64, outputs: 64, size: 1 };
  for (let channel = 0; channel < 64; channel++) identity.weight[channel * 65] = 1;
  const conv = lastFrameOutputs(identity, 2, 1);
  await withPiece([["B", 64, "h", "w"]], (graph, x) => inverseHaar(graph, inverseHaar(graph, conv2d(graph, x, conv, "fp32"))), async (piece) => {
    for (let band = 0; band < 64; band++) {
      const [[t1, h1, w1], [t2, h2, w2]] = [bitsOf(band >> 3), bitsOf(band & 7)];
      const expected = Array.from({ length: 16 }, (_, index) => {
        const [row, column] = [index >> 2, index & 3];
        return (-1) ** (t1 + t2 + h1 * (row >> 1) + w1 * (column >> 1) + h2 * (row & 1) + w2 * (column & 1));
      });
      assert.deepEqual([...(await piece.run(oneHot([1, 64, 1, 1], band)))], expected, `${band}`);
    }
  });
});

test("a still picture fills the bands of video that are low along time, and these are the image's", async () => {
  const picture = noise([1, 1, 4, 4], "picture").data;
  // One output for each band of video, by the definition: the first frame repeated four times.
  const bands = Array.from({ length: 64 }, (_, band) => {
    const [[t1, h1, w1], [t2, h2, w2]] = [bitsOf(band & 7), bitsOf(band >> 3)];
    let sum = 0;
    for (let index = 0; index < 64; index++) {
      const [frame, row, column] = [index >> 4, (index >> 2) & 3, index & 3];
      const sign = (frame & 1) * t1 + (frame >> 1) * t2 + (row & 1) * h1 + (row >> 1) * h2 + (column & 1) * w1 + (column >> 1) * w2;
      sum += (-1) ** sign * picture[row * 4 + column];
    }
    return sum / 64;
  });
  const identity = { weight: new Float32Array(64 * 64), bias: new Float32Array(64), inputs: 64, outputs: 64, size: 1 };
  for (let channel = 0; channel < 64; channel++) identity.weight[channel * 65] = 1;
  const conv = stillInputs(identity, 2, 1);
  const actual = await withPiece([["B", 1, "h", "w"]], (graph, x) => conv2d(graph, haar(graph, haar(graph, x)), conv, "fp32"),
    (piece) => piece.run({ data: picture, dims: [1, 1, 4, 4] }));
  assert.ok(largestDistance(actual, bands) < 1e-6);
});

test("fused convolutions are the two of them, at the borders too", async () => {
  const [first, point] = [noisyConv(5, 6, 3, "first"), noisyConv(6, 7, 1, "point")];
  const x = noise([2, 5, 3, 4], "x");
  const apart = await withPiece([["B", 5, "h", "w"]],
    (graph, value) => conv2d(graph, conv2d(graph, value, first, "fp32"), point, "fp32"), (piece) => piece.run(x));
  const together = await withPiece([["B", 5, "h", "w"]], (graph, value) => conv2d(graph, value, fuse(first, point), "fp32"), (piece) => piece.run(x));
  assert.ok(largestDistance(together, apart) < 1e-5);
});

test("a halving convolution stands on every second pixel, with zeros to the right and below", async () => {
  const conv = { ...noisyConv(1, 1, 3, "halving"), bias: Float32Array.of(0) };
  const y = await withPiece([["B", 1, "h", "w"]], (graph, x) => halvingConv2d(graph, x, conv, "fp32"),
    (piece) => piece.run(oneHot([1, 1, 4, 4], 10))); // row 2, column 2
  const [w] = [conv.weight];
  assert.deepEqual([...y], [w[8], w[6], w[2], w[0]]);
});

test("nearest upsampling makes squares of four", async () => {
  const y = await withPiece([["B", 1, "h", "w"]], upsampleNearest, (piece) => piece.run({ data: Float32Array.of(1, 2), dims: [1, 1, 1, 2] }));
  assert.deepEqual([...y], [1, 1, 2, 2, 1, 1, 2, 2]);
});

test("attention over a plane is the softmax of scaled products", async () => {
  const dims = [2, 8, 3, 5];
  const [query, key, value] = ["query", "key", "value"].map((name) => noise(dims, name));
  const actual = await withPiece([dims, dims, dims], planeAttention, (piece) => piece.run(query, key, value));
  const at = (plane: Plane, image: number, channel: number, pixel: number): number => plane.data[(image * 8 + channel) * 15 + pixel];
  const channels = Array.from({ length: 8 }, (_, channel) => channel);
  const expected = Array.from({ length: actual.length }, (_, index) => {
    const [image, channel, pixel] = [Math.floor(index / 120), Math.floor(index / 15) % 8, index % 15];
    const weights = Array.from({ length: 15 }, (_, other) =>
      Math.exp(channels.reduce((sum, c) => sum + at(query, image, c, pixel) * at(key, image, c, other), 0) / Math.sqrt(8)));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights.reduce((sum, weight, other) => sum + (weight / total) * at(value, image, channel, other), 0);
  });
  assert.ok(largestDistance(actual, expected) < 1e-6);
});

for (const groups of [1, 32]) {
  test(`a norm of ${groups} group(s) stays within 1e-5 of float64 when the mean is far from zero`, async (t) => {
    const distance = await measureGroupNorm(64, groups, 96);
    t.diagnostic(`largest distance ${distance.toExponential(2)}`);
    assert.ok(distance < 1e-5, `${distance}`);
  });
}
