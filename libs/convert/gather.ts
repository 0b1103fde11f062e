/** How the elements of an array lie in its storage: sizes of the axes, and elements from one index of an axis to the next. */
export interface Layout {
  readonly sizes: readonly number[];
  readonly strides: readonly number[];
}

/** Whether a layout is the row-major one without gaps. */
export function isContiguous({ sizes, strides }: Layout): boolean {
  let expected = 1;
  for (let axis = sizes.length - 1; axis >= 0; axis--) {
    if (sizes[axis] !== 1 && strides[axis] !== expected) return false;
    expected *= sizes[axis];
  }
  return true;
}

/**
 * Copy elements of a strided array into row-major order, until `target` is full.
 * @param bytes the storage; `width` bytes an element, the array's first one is element `offset`.
 * @param first which element of the array comes first.
 */
export function gather(bytes: Uint8Array, width: number, offset: number, layout: Layout, first: number, target: Uint8Array): void {
  const { sizes, strides } = layout;
  const index = sizes.map(() => 0);
  let at = offset;
  for (let axis = sizes.length - 1, rest = first; axis >= 0; axis--) {
    index[axis] = rest % sizes[axis];
    rest = Math.floor(rest / sizes[axis]);
    at += index[axis] * strides[axis];
  }
  for (let done = 0; done < target.length; done += width) {
    for (let byte = 0; byte < width; byte++) target[done + byte] = bytes[at * width + byte];
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      at += strides[axis];
      if (++index[axis] < sizes[axis]) break;
      at -= sizes[axis] * strides[axis];
      index[axis] = 0;
    }
  }
}
