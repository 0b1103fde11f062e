import assert from "node:assert/strict";
import { test } from "node:test";
import { Draws } from "#libs/training/scene.js";
import { copiedShare, frechetDistance, kernelDistance, nearestCosines } from "./quality.js";

/** `count` rows of independent normal numbers around `mean` with deviation `deviation`. */
function normal(seed: number, count: number, size: number, mean = 0, deviation = 1): Float32Array[] {
  const draws = new Draws(seed, 0);
  return Array.from({ length: count }, () => Float32Array.from({ length: size }, () => (
    mean + deviation * Math.sqrt(-2 * Math.log(draws.next())) * Math.cos(2 * Math.PI * draws.next())
  )));
}

test("the Fréchet distance of normal laws is the known one", () => {
  const [a, b] = [normal(1, 4000, 6), normal(2, 4000, 6, 0.5, 2)];
  assert.ok(Math.abs(frechetDistance(a, a)) < 1e-6);
  // Means differ by 0.5 and deviations by 1 in each of 6 dimensions.
  assert.ok(Math.abs(frechetDistance(a, b) - 6 * (0.25 + 1)) < 0.3, `${frechetDistance(a, b)}`);
});

test("the Fréchet distance sees a change of correlation that leaves every mean and variance alone", () => {
  const a = normal(3, 4000, 2);
  const b = a.map(([x, y]) => Float32Array.of(x!, 0.9 * x! + Math.sqrt(1 - 0.81) * y!));
  // Eigenvalues of the second covariance are 1.9 and 0.1: 2 + 2 - 2 (sqrt 1.9 + sqrt 0.1).
  assert.ok(Math.abs(frechetDistance(a, b) - (4 - 2 * (Math.sqrt(1.9) + Math.sqrt(0.1)))) < 0.05);
});

test("the kernel distance of equal laws is about 0, of others not", () => {
  const [a, b, c] = [normal(4, 500, 8), normal(5, 500, 8), normal(6, 500, 8, 0.5)];
  assert.ok(Math.abs(kernelDistance(a, b)) < 0.03, `${kernelDistance(a, b)}`);
  assert.ok(kernelDistance(a, c) > 0.3, `${kernelDistance(a, c)}`);
});

test("the nearest cosine finds the copy", () => {
  const [a, b] = [normal(7, 20, 16), normal(8, 50, 16)];
  const found = nearestCosines([...a, b[7]!.map((value) => 3 * value)], b);
  assert.ok(Math.abs(found.at(-1)! - 1) < 1e-6);
  assert.ok(Math.max(...found.subarray(0, 20)) < 0.95);
});

test("a copy of a training picture is one, what was asked for is not, even if training held it", () => {
  const [training, asked] = [normal(9, 40, 16), normal(10, 20, 16)];
  const near = (set: readonly Float32Array[]) => set.map((row, i) => row.map((value, k) => value + 0.1 * normal(11 + i, 1, 16)[0]![k]!));
  const share = (made: readonly Float32Array[], known = training) => copiedShare(made, { asked, training: known, likeness: 0.95 });
  assert.equal(share(near(asked)), 0);
  assert.equal(share(near(asked), [...training, ...asked]), 0);
  assert.equal(share(near(training.slice(0, 20))), 1);
  assert.equal(share([...near(asked.slice(0, 10)), ...near(training.slice(0, 10))]), 0.5);
  // What is like nothing is nearer to some training picture than to what was asked for, and yet no copy.
  assert.equal(share(normal(50, 20, 16)), 0);
});
