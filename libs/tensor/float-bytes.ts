import { invariant } from "#libs/errors/errors.js";

/** float32 numbers as they go over the wire: little-endian, on a view of the same memory. */
export function bytesOfFloats(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** float32 numbers from the wire, on a buffer of their own. @throws invariant if the bytes are not whole numbers. */
export function floatsOfBytes(bytes: Uint8Array): Float32Array {
  if (bytes.length % 4 !== 0) throw invariant(`float32 numbers must have 4 n bytes, got ${bytes.length}`);
  // Not `slice`: of a `Buffer` that is a view of the same memory.
  return new Float32Array(new Uint8Array(bytes).buffer);
}
