import type { Box, Detection } from "./detector.js";
import type { Clause, GenevalPrompt, Position } from "./prompts.js";

/** GenEval shrinks the way between two centres by this share of both boxes before it asks for the direction. */
const POSITION_THRESHOLD = 0.1;
/** How much of the remaining way must point in the asked direction. */
const MIN_DIRECTION = 0.5;

/**
 * Where `a` lies relative to `b`, by GenEval's own rule (`relative_position` of its evaluate_images.py): up to two words,
 * none for boxes that overlap too much.
 */
export function positionsOf(a: Box, b: Box): Set<Position> {
  const way = [0, 1].map((axis) => {
    const centres = (a[axis]! + a[axis + 2]! - b[axis]! - b[axis + 2]!) / 2;
    const sizes = a[axis + 2]! - a[axis]! + b[axis + 2]! - b[axis]!;
    return Math.sign(centres) * Math.max(0, Math.abs(centres) - POSITION_THRESHOLD * sizes);
  }) as [number, number];
  const length = Math.hypot(...way);
  const found = new Set<Position>();
  if (way.every((part) => Math.abs(part) < 1e-3)) return found;
  if (way[0] / length < -MIN_DIRECTION) found.add("left of");
  if (way[0] / length > MIN_DIRECTION) found.add("right of");
  if (way[1] / length < -MIN_DIRECTION) found.add("above");
  if (way[1] / length > MIN_DIRECTION) found.add("below");
  return found;
}

/**
 * Whether a picture shows what its prompt asks for. Stricter than GenEval in one way: in every task there must be exactly
 * the objects asked for and no others, not even ones the judge cannot name.
 * @param hasColour whether an object shows a colour.
 */
export function isCorrect(
  { include }: Pick<GenevalPrompt, "include">, detections: readonly Detection[],
  hasColour: (detection: Detection, colour: string) => boolean = (detection, colour) => detection.colour === colour,
): boolean {
  if (detections.length !== include.reduce((sum, { count }) => sum + count, 0)) return false;
  const groups: Detection[][] = [];
  for (const clause of include) {
    const group = detections.filter(({ object }) => object === clause.class);
    const coloured = clause.color === undefined ? group : group.filter((one) => hasColour(one, clause.color!));
    if (group.length !== clause.count || coloured.length !== clause.count) return false;
    groups.push(group);
  }
  return include.every((clause, index) => isPlaced(clause, groups[index]!, groups));
}

function isPlaced({ position }: Clause, group: readonly Detection[], groups: readonly (readonly Detection[])[]): boolean {
  if (position === undefined) return true;
  const [relation, other] = position;
  return group.every((one) => groups[other]!.every((target) => positionsOf(one.box, target.box).has(relation)));
}
