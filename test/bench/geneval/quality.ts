/** Features of some pictures by one network: rows of the same length. */
export type Features = readonly Float32Array[];

/** Turns of Jacobi's method; it doubles its digits each turn once it is near. */
const MAX_SWEEPS = 30;

/**
 * Fréchet distance between two sets of features, each seen as a normal law (Heusel et al., arXiv 1706.08500). Compare only
 * distances by the same network; it is "FID" only if that network is Inception.
 */
export function frechetDistance(a: Features, b: Features): number {
  const [first, second] = [momentsOf(a), momentsOf(b)];
  const size = first.mean.length;
  const root = rootOf(first.covariance, size);
  const middle = eigenvaluesOf(product(product(root, second.covariance, size), root, size), size).values;
  const means = first.mean.reduce((sum, value, i) => sum + (value - second.mean[i]!) ** 2, 0);
  const trace = (matrix: Float64Array) => Array.from({ length: size }, (_, i) => matrix[i * size + i]!).reduce((x, y) => x + y, 0);
  const shared = middle.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
  return means + trace(first.covariance) + trace(second.covariance) - 2 * shared;
}

/** Kernel distance: unbiased squared maximum mean discrepancy with the kernel `(x y / size + 1) ** 3` (arXiv 1801.01401). */
export function kernelDistance(a: Features, b: Features): number {
  const within = (set: Features) => meanKernel(set, set, true);
  return within(a) + within(b) - 2 * meanKernel(a, b, false);
}

/** For each of some features the cosine with the most similar one of others. */
export function nearestCosines(features: Features, others: Features): Float64Array {
  const candidates = unit(others);
  return Float64Array.from(unit(features), (row) => candidates.reduce((best, other) => Math.max(best, dot(row, other)), -1));
}

/** The cosine of each row with the one at the same place. */
export function pairedCosines(a: Features, b: Features): Float64Array {
  const others = unit(b);
  return Float64Array.from(unit(a), (row, place) => dot(row, others[place]!));
}

/**
 * Memorisation: the share of pictures that are very like a training picture, and more so than like the one that was asked for.
 * @param asked of each picture, in its order. What is asked for may itself be a training picture: that is no copy.
 * @param likeness the cosine from which two pictures count as the same drawing: failures resemble something, but nothing so much.
 */
export function copiedShare(
  made: Features, { asked, training, likeness }: { readonly asked: Features; readonly training: Features; readonly likeness: number },
): number {
  const [nearest, own] = [nearestCosines(made, training), pairedCosines(made, asked)];
  return nearest.filter((cosine, place) => cosine >= likeness && cosine > own[place]! + 1e-6).length / made.length;
}

function unit(set: Features): Features {
  return set.map((row) => {
    const length = Math.sqrt(dot(row, row)) + 1e-12;
    return row.map((value) => value / length);
  });
}

function meanKernel(a: Features, b: Features, isSame: boolean): number {
  let sum = 0;
  for (const [i, x] of a.entries()) {
    for (const [j, y] of b.entries()) if (!isSame || i !== j) sum += (dot(x, y) / x.length + 1) ** 3;
  }
  return sum / (a.length * (isSame ? b.length - 1 : b.length));
}

function dot(x: Float32Array, y: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

function momentsOf(features: Features): { readonly mean: Float64Array; readonly covariance: Float64Array } {
  const size = features[0]!.length;
  const mean = new Float64Array(size);
  for (const row of features) for (let i = 0; i < size; i++) mean[i]! += row[i]! / features.length;
  const covariance = new Float64Array(size * size);
  const centred = new Float64Array(size);
  for (const row of features) {
    for (let i = 0; i < size; i++) centred[i] = row[i]! - mean[i]!;
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) covariance[i * size + j]! += (centred[i]! * centred[j]!) / (features.length - 1);
    }
  }
  return { mean, covariance };
}

/** The symmetric square root of a covariance. */
function rootOf(matrix: Float64Array, size: number): Float64Array {
  const { values, vectors } = eigenvaluesOf(matrix, size);
  const scaled = vectors.map((value, i) => value * Math.sqrt(Math.max(0, values[i % size]!)));
  const transposed = Float64Array.from({ length: size * size }, (_, i) => vectors[(i % size) * size + Math.floor(i / size)]!);
  return product(scaled, transposed, size);
}

function product(a: Float64Array, b: Float64Array, size: number): Float64Array {
  const out = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < size; k++) {
      const factor = a[i * size + k]!;
      for (let j = 0; j < size; j++) out[i * size + j]! += factor * b[k * size + j]!;
    }
  }
  return out;
}

/** Eigenvalues of a symmetric matrix and its eigenvectors as columns, by cyclic Jacobi rotations. */
function eigenvaluesOf(symmetric: Float64Array, size: number): { readonly values: Float64Array; readonly vectors: Float64Array } {
  const a = symmetric.slice();
  const vectors = Float64Array.from({ length: size * size }, (_, i) => Number(i % (size + 1) === 0));
  const total = a.reduce((sum, value) => sum + value * value, 0);
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let off = 0;
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) off += a[p * size + q]! ** 2;
    if (off <= 1e-22 * total) break;
    for (let p = 0; p < size; p++) for (let q = p + 1; q < size; q++) rotate(a, vectors, size, p, q);
  }
  return { values: Float64Array.from({ length: size }, (_, i) => a[i * size + i]!), vectors };
}

/** One rotation that makes the element at (p, q) zero. */
function rotate(a: Float64Array, vectors: Float64Array, size: number, p: number, q: number): void {
  const element = a[p * size + q]!;
  if (element === 0) return;
  const theta = (a[q * size + q]! - a[p * size + p]!) / (2 * element);
  const tangent = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  const turn = (matrix: Float64Array, at: number, to: number) => {
    const [x, y] = [matrix[at]!, matrix[to]!];
    matrix[at] = cosine * x - sine * y;
    matrix[to] = sine * x + cosine * y;
  };
  for (let k = 0; k < size; k++) turn(a, k * size + p, k * size + q);
  for (let k = 0; k < size; k++) turn(a, p * size + k, q * size + k);
  for (let k = 0; k < size; k++) turn(vectors, k * size + p, k * size + q);
}
