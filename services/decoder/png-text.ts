import { crc32 } from "node:zlib";
import { invariant } from "#libs/errors/errors.js";

/** One piece of text in a PNG: a keyword of 1 .. 79 printable Latin-1 characters, and any Unicode text without NUL. */
export interface PngText {
  readonly keyword: string;
  readonly text: string;
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** Signature, then IHDR with its length, type, 13 bytes and checksum. */
const HEADER_BYTES = SIGNATURE.length + 4 + 4 + 13 + 4;
const KEYWORD = /^(?! )(?!.* {2})[\x20-\x7e\xa1-\xff]{1,79}(?<! )$/;

/**
 * A PNG with texts put in right after its header, as uncompressed iTXt chunks; the pixels are untouched.
 * @see PNG (Third Edition), W3C 2025, 11.3.3.4
 * @throws AppError "internal" for bytes that are no PNG or a keyword that the format forbids.
 */
export function withPngText(png: Uint8Array, texts: readonly PngText[]): Uint8Array {
  const isPng = png.length >= HEADER_BYTES && SIGNATURE.equals(png.subarray(0, SIGNATURE.length));
  if (!isPng) throw invariant("text can only be put into a PNG");
  return Buffer.concat([png.subarray(0, HEADER_BYTES), ...texts.map(textChunk), png.subarray(HEADER_BYTES)]);
}

function textChunk({ keyword, text }: PngText): Uint8Array {
  if (!KEYWORD.test(keyword)) throw invariant(`PNG keyword must be 1 .. 79 printable Latin-1 characters, got ${keyword}`);
  // After the keyword: end, not compressed, method 0, no language, no translated keyword.
  const content = Buffer.concat([Buffer.from(keyword, "latin1"), Buffer.alloc(5), Buffer.from(text.replaceAll("\0", ""))]);
  const chunk = Buffer.alloc(content.length + 12);
  chunk.writeUInt32BE(content.length, 0);
  chunk.write("iTXt", 4, "latin1");
  chunk.set(content, 8);
  chunk.writeUInt32BE(crc32(chunk.subarray(4, 8 + content.length)), 8 + content.length);
  return chunk;
}
