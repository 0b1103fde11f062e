import type { ConvWeights } from "#libs/onnx/conv2d.js";

/**
 * What a causal video network does to a single image, as plane convolutions. Frames before the first are copies of it, so
 * all taps along time see the same frame; convolutions without an activation between them are one. Sums run in float64.
 */

/** Sum a kernel's taps along time, `[outputs inputs, time, plane]` -> `[outputs inputs, plane]`, row-major. */
export function sumTaps(weight: Float32Array, time: number, plane: number): Float32Array {
  if (time === 1) return weight;
  const sums = new Float32Array(weight.length / time);
  for (let index = 0; index < sums.length; index++) {
    const start = Math.floor(index / plane) * time * plane + (index % plane);
    let sum = 0;
    for (let tap = 0; tap < time; tap++) sum += weight[start + tap * plane];
    sums[index] = sum;
  }
  return sums;
}

/** `first` and then `point`, a convolution of 1 x 1, as one. Zeros around a plane are `first`'s alone, so borders stay exact. */
export function fuse(first: ConvWeights, point: ConvWeights): ConvWeights {
  const rowLength = first.inputs * first.size ** 2;
  const weight = new Float32Array(point.outputs * rowLength);
  const bias = new Float32Array(point.outputs);
  for (let output = 0; output < point.outputs; output++) {
    const factors = point.weight.subarray(output * point.inputs, (output + 1) * point.inputs);
    weight.set(combinedRows(first.weight, rowLength, factors), output * rowLength);
    bias[output] = factors.reduce((sum, factor, row) => sum + factor * first.bias[row], point.bias[output]);
  }
  return { weight, bias, outputs: point.outputs, inputs: first.inputs, size: first.size };
}

/** The sum of the rows of a matrix, each times its factor. Four at a time: this is where converting spends its time. */
function combinedRows(matrix: Float32Array, length: number, factors: Float32Array): Float64Array {
  const sum = new Float64Array(length);
  let row = 0;
  for (; row + 4 <= factors.length; row += 4) {
    const [a, b, c, d] = [factors[row], factors[row + 1], factors[row + 2], factors[row + 3]];
    const start = row * length;
    for (let i = 0; i < length; i++) {
      sum[i] += a * matrix[start + i] + b * matrix[start + length + i] + c * matrix[start + 2 * length + i] +
        d * matrix[start + 3 * length + i];
    }
  }
  for (; row < factors.length; row++) {
    for (let i = 0; i < length; i++) sum[i] += factors[row] * matrix[row * length + i];
  }
  return sum;
}

/** `x` itself beside a convolution of it: `x + conv(x)`. */
export function plusInput(conv: ConvWeights): ConvWeights {
  const centre = (conv.size ** 2 - 1) / 2;
  return plusPlane(conv, [centre], 1);
}

/** The mean of each 2 x 2 beside a halving convolution of 3 x 3. */
export function plusMean(conv: ConvWeights): ConvWeights {
  return plusPlane(conv, [0, 1, conv.size, conv.size + 1], 0.25);
}

/** Add `value` to some taps of every channel's kernel for itself. */
function plusPlane(conv: ConvWeights, taps: readonly number[], value: number): ConvWeights {
  const weight = conv.weight.slice();
  const plane = conv.size ** 2;
  for (let channel = 0; channel < conv.inputs; channel++) {
    for (const tap of taps) weight[(channel * conv.inputs + channel) * plane + tap] += value;
  }
  return { ...conv, weight };
}

/** A Haar band of video: the band of the image that it goes into, and its sign in the last frame. */
export interface VideoBand {
  readonly band: number;
  readonly sign: 1 | -1;
  /** Whether it is low along time at every level. */
  readonly isStill: boolean;
}

/**
 * The bands of a patch of video in their order, `8 ** levels` of them, the index of each level being `4 t + 2 h + w`;
 * those of an image are `4 ** levels`, with `2 w + h`.
 */
export function videoBands(levels: number): readonly VideoBand[] {
  return Array.from({ length: 8 ** levels }, (_, index) => {
    let band = 0;
    let high = 0;
    for (let level = levels - 1; level >= 0; level--) {
      const digit = Math.floor(index / 8 ** level) % 8;
      high += digit >> 2;
      band = band * 4 + 2 * (digit & 1) + ((digit >> 1) & 1);
    }
    return { band, sign: high % 2 === 0 ? 1 : -1, isStill: high === 0 };
  });
}

/**
 * Let a convolution that gives bands of video, `colours` channels each, give those of its last frame alone: the one that is
 * kept. At each level it is the difference of the bands low and high along time.
 */
export function lastFrameOutputs(conv: ConvWeights, levels: number, colours: number): ConvWeights {
  const outputs = colours * 4 ** levels;
  const rowLength = conv.inputs * conv.size ** 2;
  const weight = new Float64Array(outputs * rowLength);
  const bias = new Float64Array(outputs);
  videoBands(levels).forEach(({ band, sign }, from) => {
    for (let colour = 0; colour < colours; colour++) {
      const [source, target] = [from * colours + colour, band * colours + colour];
      bias[target] += sign * conv.bias[source];
      for (let i = 0; i < rowLength; i++) weight[target * rowLength + i] += sign * conv.weight[source * rowLength + i];
    }
  });
  return { ...conv, weight: Float32Array.from(weight), bias: Float32Array.from(bias), outputs };
}

/** Let a convolution that takes bands of video take those of an image: in a still, bands high along time are zero. */
export function stillInputs(conv: ConvWeights, levels: number, colours: number): ConvWeights {
  const inputs = colours * 4 ** levels;
  const plane = conv.size ** 2;
  const weight = new Float32Array(conv.outputs * inputs * plane);
  videoBands(levels).forEach(({ band, isStill }, from) => {
    if (!isStill) return;
    for (let output = 0; output < conv.outputs; output++) {
      const source = (output * conv.inputs + from * colours) * plane;
      weight.set(conv.weight.subarray(source, source + colours * plane), (output * inputs + band * colours) * plane);
    }
  });
  return { ...conv, weight, inputs };
}
