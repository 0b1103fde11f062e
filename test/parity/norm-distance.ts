import type { Graph, Value } from "#libs/onnx/graph.js";
import { groupNorm } from "#libs/onnx/group-norm.js";
import { noise, withPiece } from "#test/fixtures/piece.js";

const EPSILON = 1e-6;

/**
 * How far a group norm's graph lies from float64 on noise around 3, five deviations away from zero.
 * @returns the largest distance over a plane of `size` x `size` pixels.
 */
export async function measureGroupNorm(channels: number, groups: number, size: number): Promise<number> {
  const { data: x, dims } = noise([1, channels, size, size], "norm.x");
  for (let i = 0; i < x.length; i++) x[i] += 3;
  const weight = noise([channels], "norm.weight").data;
  const bias = noise([channels], "norm.bias").data;
  const add = (graph: Graph, value: Value): Value => groupNorm(graph, value, weight, bias, groups, EPSILON);
  const y = await withPiece([["B", channels, "h", "w"]], add, (piece) => piece.run({ data: x, dims }));
  const length = x.length / groups;
  let largest = 0;
  for (let start = 0; start < x.length; start += length) {
    const { mean, deviation } = moments(x.subarray(start, start + length));
    for (let i = start; i < start + length; i++) {
      const channel = Math.floor(i / size ** 2);
      const distance = Math.abs(((x[i] - mean) / deviation) * weight[channel] + bias[channel] - y[i]);
      largest = distance <= largest ? largest : distance; // NaN stays.
    }
  }
  return largest;
}

function moments(values: Float32Array): { readonly mean: number; readonly deviation: number } {
  let sum = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  return { mean, deviation: Math.sqrt(squares / values.length + EPSILON) };
}
