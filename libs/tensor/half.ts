const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);

/** Widen IEEE 754 binary16 words; exact. @param values takes the result; may share its last bytes with `halves`. */
export function floatsFromHalves(halves: Uint16Array, values: Float32Array = new Float32Array(halves.length)): Float32Array {
  for (let i = 0; i < halves.length; i++) values[i] = floatFromHalf(halves[i]);
  return values;
}

/** Widen bfloat16 words (the upper half of a binary32); exact. @param values as for halves. */
export function floatsFromBfloat16(
  upperHalves: Uint16Array, values: Float32Array = new Float32Array(upperHalves.length),
): Float32Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < upperHalves.length; i++) bits[i] = upperHalves[i] << 16;
  return values;
}

/**
 * Round to IEEE 754 binary16 words, ties to even; beyond 65504 becomes infinity.
 * @param halves takes the result; may share its first bytes with `values`, which are lost then.
 */
export function halvesFromFloats(values: Float32Array, halves: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  for (let i = 0; i < values.length; i++) halves[i] = halfFromFloat(values[i]);
  return halves;
}

function floatFromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function halfFromFloat(value: number): number {
  floats[0] = value;
  const sign = (words[0] >>> 16) & 0x8000;
  const magnitude = words[0] & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) return sign | roundHalfEven(Math.abs(value) * 2 ** 24);
  // A carry out of the fraction raises the exponent, as it should.
  const rounding = 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((magnitude + rounding - 0x38000000) >>> 13);
}

/** Exact here: the argument is a binary32 scaled by a power of two. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
