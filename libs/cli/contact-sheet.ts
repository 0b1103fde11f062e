import sharp from "sharp";
import type { FileFormat } from "./generate-options.js";

const GAP_PIXELS = 8;
const BACKGROUND = "#ffffff";

/**
 * All pictures of one request on one sheet, in rows as even as can be.
 * @param pictures encoded, all of the same size; at least one.
 */
export async function contactSheet(
  pictures: readonly Uint8Array[], size: { readonly height: number; readonly width: number }, format: FileFormat,
): Promise<Uint8Array> {
  const columns = Math.ceil(Math.sqrt(pictures.length));
  const rows = Math.ceil(pictures.length / columns);
  const [stepX, stepY] = [size.width + GAP_PIXELS, size.height + GAP_PIXELS];
  const sheet = sharp({
    create: { width: columns * stepX + GAP_PIXELS, height: rows * stepY + GAP_PIXELS, channels: 3, background: BACKGROUND },
  });
  const placed = pictures.map((picture, index) => ({
    input: Buffer.from(picture),
    left: GAP_PIXELS + (index % columns) * stepX,
    top: GAP_PIXELS + Math.floor(index / columns) * stepY,
  }));
  return sheet.composite(placed).toFormat(format).toBuffer();
}
