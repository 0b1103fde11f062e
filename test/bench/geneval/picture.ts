import sharp, { type Sharp } from "sharp";

/** Side of the pictures that both judges look at, in pixels. */
export const SIDE = 96;

/** A picture as the judges see it: `[96, 96, 3]`, 8 bits a component. */
export type Picture = Uint8Array;

/** Bytes of one picture. */
export const PICTURE_BYTES = SIDE * SIDE * 3;

/** Read an encoded picture of any size; one of 96 pixels is left exactly as it is. */
export async function readPicture(encoded: Uint8Array): Promise<Picture> {
  return bytesOf(sharp(encoded).flatten({ background: "#ffffff" }), { height: SIDE, width: SIDE });
}

/** A picture at a model's own size, `[height, width, 3]`; one that has that size is left exactly as it is. */
export async function resizePicture(
  picture: Picture, size: { readonly height: number; readonly width: number },
): Promise<Uint8Array> {
  return bytesOf(sharp(picture, { raw: { width: SIDE, height: SIDE, channels: 3 } }), size);
}

async function bytesOf(image: Sharp, { height, width }: { readonly height: number; readonly width: number }): Promise<Uint8Array> {
  const resized = image.resize(width, height, { fit: "fill", kernel: "lanczos3" }).toColourspace("srgb");
  return new Uint8Array(await resized.raw({ depth: "uchar" }).toBuffer());
}
