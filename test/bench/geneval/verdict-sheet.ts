import sharp from "sharp";
import type { Verdict } from "./jury.js";
import { SIDE, type Picture } from "./picture.js";
import { TASKS, type PromptedScene } from "./prompts.js";

/** Prompts of each task on the sheet, and pictures of each prompt. */
const COLUMNS = 12;
const ROWS = 4;
const FRAME = 3;
const GAP = 4;
const STEP = SIDE + 2 * FRAME + GAP;
const RIGHT = { r: 30, g: 160, b: 70 } as const;
const WRONG = { r: 205, g: 45, b: 45 } as const;

/** Some prompts of each task side by side, one task below the other: green frames are correct, red ones are not. A PNG file. */
export async function verdictSheet(
  prompts: readonly PromptedScene[], verdicts: readonly (readonly Verdict[])[],
  picturesOf: (place: number) => Promise<readonly Picture[]>,
): Promise<Uint8Array> {
  const placed = [];
  let top = GAP;
  for (const task of TASKS) {
    const places = prompts.flatMap(({ prompt }, place) => (prompt.tag === task ? [place] : []));
    const shown = Array.from({ length: Math.min(COLUMNS, places.length) }, (_, i) => places[Math.floor((i * places.length) / Math.min(COLUMNS, places.length))]!);
    const rows = Math.min(ROWS, ...shown.map((place) => verdicts[place]!.length));
    for (const [column, place] of shown.entries()) {
      const pictures = await picturesOf(place);
      for (let row = 0; row < rows; row++) {
        const input = await framed(pictures[row]!, verdicts[place]![row]!.detector);
        placed.push({ input, left: GAP + column * STEP, top: top + row * STEP });
      }
    }
    if (shown.length > 0) top += rows * STEP + 2 * GAP;
  }
  const size = { width: GAP + COLUMNS * STEP, height: top };
  return sharp({ create: { ...size, channels: 3, background: "#ffffff" } }).composite(placed).png().toBuffer();
}

async function framed(picture: Picture, isRight: boolean): Promise<Buffer> {
  const image = sharp(picture, { raw: { width: SIDE, height: SIDE, channels: 3 } });
  const frame = { top: FRAME, bottom: FRAME, left: FRAME, right: FRAME, background: isRight ? RIGHT : WRONG };
  return image.extend(frame).png().toBuffer();
}
