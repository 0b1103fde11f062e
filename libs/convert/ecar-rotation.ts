import type { Graph, Value } from "#libs/onnx/graph.js";
import type { Rotation } from "#libs/onnx/rope.js";
import type { EcarConfig } from "./ecar-config.js";

/** Row and column in cells of the finest stage. */
type Place = readonly [row: number, column: number];

/** What places follow from. */
export interface PlaceShape extends Pick<EcarConfig, "maxPromptTokens"> {
  readonly stages: readonly Pick<EcarConfig["stages"][number], "height" | "width">[];
}

/** Where the text tokens lie: on the diagonal behind the image. */
export function textPlaces({ maxPromptTokens, stages }: PlaceShape): readonly Place[] {
  const { height, width } = stages.at(-1)!;
  return Array.from({ length: maxPromptTokens }, (_, index) => [height + index, width + index]);
}

/** Where the cells of all stages lie, coarsest first: in the middle of what they cover. */
export function cellPlaces({ stages }: Pick<PlaceShape, "stages">): readonly Place[] {
  const finest = stages.at(-1)!;
  const middle = (index: number, count: number, whole: number): number => ((index + 0.5) * whole) / count - 0.5;
  return stages.flatMap(({ height, width }) => Array.from({ length: height * width }, (_, cell): Place => [
    middle(Math.floor(cell / width), height, finest.height), middle(cell % width, width, finest.width),
  ]));
}

/**
 * The rotation by row and column: half of a head's pairs turn by the one, half by the other.
 * @param positions int64 `[B, S]`, numbers of places. @param places each a row of the tables.
 * @see Su et al., arXiv 2104.09864 (one dimension); Heo et al., arXiv 2403.13298 (two)
 */
export function planeRotation(
  graph: Graph, positions: Value, places: readonly Place[], { headSize, ropeTheta }: { readonly headSize: number; readonly ropeTheta: number },
): Rotation {
  const quarter = headSize / 4;
  const frequencies = Array.from({ length: quarter }, (_, index) => ropeTheta ** (-index / quarter));
  const angles = places.flatMap((place) => place.flatMap((at) => frequencies.map((frequency) => at * frequency)));
  const table = (name: string, wave: (angle: number) => number): Value =>
    graph.constant(name, Float32Array.from(angles, wave), [places.length, 2 * quarter]);
  return { positions, cos: table("cos", Math.cos), sin: table("sin", Math.sin) };
}
