import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Manifest } from "#libs/bundle/manifest.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

/**
 * The tiny model asked for larger images, so that there is time to watch it at work: a grid of 16 takes a good tenth of
 * a second, one of 64 several seconds. Removed when the process ends.
 * @param gridSize rows and columns of image tokens, at most 89.
 * @returns the bundle's folder.
 */
export async function slowBundle(gridSize: number): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "tessera-slow-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(await tinyBundle(), folder, { recursive: true });
  const file = join(folder, "model.json");
  const manifest = JSON.parse(readFileSync(file, "utf8")) as Manifest;
  const { height, gridHeight } = manifest.image;
  const pixels = (height / gridHeight) * gridSize;
  const image = { ...manifest.image, height: pixels, width: pixels, gridHeight: gridSize, gridWidth: gridSize };
  writeFileSync(file, JSON.stringify({ ...manifest, image }));
  return folder;
}
