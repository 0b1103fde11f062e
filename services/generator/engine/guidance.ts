/**
 * Classifier-free guidance: `u + s * (c - u)`, in place.
 * @param conditional `[V]` logits; overwritten by the guided ones.
 * @param unconditional `[V]` logits.
 * @param guidanceScale unitless; 1 leaves `conditional` as it is.
 * @see Ho & Salimans, arXiv 2207.12598
 */
export function guide(conditional: Float32Array, unconditional: Float32Array, guidanceScale: number): void {
  for (let v = 0; v < conditional.length; v++) {
    const u = unconditional[v];
    conditional[v] = u + guidanceScale * (conditional[v] - u);
  }
}
