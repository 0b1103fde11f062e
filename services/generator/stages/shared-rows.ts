import type { StageRow } from "./stage-model.js";
import type { StagedImage } from "./staged-image.js";

/**
 * The rows of a pass, and which of them each image's branches are. Equal prompts at the first stage are one row: the images
 * of a request, and above all the unconditional branch.
 */
export function sharedRows(batch: readonly StagedImage[]): {
  readonly rows: readonly StageRow[]; readonly places: ReadonlyMap<StagedImage, readonly number[]>;
} {
  const rows: StageRow[] = [];
  const known = new Map<string, number>();
  const placeOf = (row: StageRow): number => {
    const key = row.tokens.join();
    const place = row.latent === undefined ? known.get(key) : undefined;
    if (place !== undefined) return place;
    known.set(key, rows.length);
    return rows.push(row) - 1;
  };
  return { places: new Map(batch.map((image) => [image, image.nextRows.map(placeOf)])), rows };
}
