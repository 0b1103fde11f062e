/**
 * Classifier-free guidance: `u + s * (c - u)`.
 * @param logits `[2, V]`; row 0 conditional, row 1 unconditional. Row 0 is overwritten.
 * @param guidanceScale unitless; 1 gives the conditional row back.
 * @returns `[V]`, a view of row 0.
 * @see Ho & Salimans, arXiv 2207.12598
 */
export function guide(logits: Float32Array, guidanceScale: number): Float32Array {
  const size = logits.length / 2;
  for (let v = 0; v < size; v++) {
    const unconditional = logits[size + v]!;
    logits[v] = unconditional + guidanceScale * (logits[v]! - unconditional);
  }
  return logits.subarray(0, size);
}
