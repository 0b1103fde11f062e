import sharp from "sharp";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Pixels } from "./detokenizer.js";
import { withPngText, type PngText } from "./png-text.js";
import type { ValidEncoding } from "./validate.js";

// Images come one by one, and the cores are the model's.
sharp.concurrency(1);

const PNG_COMPRESSION_LEVEL = 6;

/**
 * Pixels as a file. Equal pixels, settings and texts give equal bytes.
 * @param texts go into a PNG; the other formats carry none.
 */
export async function encodeImage(
  pixels: Pixels, { format, quality }: ValidEncoding, texts: readonly PngText[] = [],
): Promise<Uint8Array> {
  const { height, width, data } = pixels;
  if (format === ImageFormat.RAW) return data;
  const image = sharp(data, { raw: { width, height, channels: 3 } });
  if (format === ImageFormat.PNG) {
    const png = await image.png({ compressionLevel: PNG_COMPRESSION_LEVEL }).toBuffer();
    return withPngText(png, texts);
  }
  if (format === ImageFormat.WEBP) return image.webp({ quality }).toBuffer();
  // Full colour resolution: flat drawings have hard edges between saturated colours.
  return image.jpeg({ quality, chromaSubsampling: "4:4:4" }).toBuffer();
}
