import sharp from "sharp";

/** Side of the pictures that both judges look at, in pixels. */
export const SIDE = 96;

/** A picture as the judges see it: `[96, 96, 3]`, 8 bits a component. */
export type Picture = Uint8Array;

/** Bytes of one picture. */
export const PICTURE_BYTES = SIDE * SIDE * 3;

/** Read an encoded picture of any size; one of 96 pixels is left exactly as it is. */
export async function readPicture(encoded: Uint8Array): Promise<Picture> {
  const image = sharp(encoded).flatten({ background: "#ffffff" }).resize(SIDE, SIDE, { fit: "fill", kernel: "lanczos3" });
  return new Uint8Array(await image.toColourspace("srgb").raw({ depth: "uchar" }).toBuffer());
}

/** A picture as a PNG file. */
export async function pngOf(picture: Picture): Promise<Uint8Array> {
  return sharp(picture, { raw: { width: SIDE, height: SIDE, channels: 3 } }).png().toBuffer();
}
