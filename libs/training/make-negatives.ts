import { createReadStream, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { ALTERATIONS, alteredScene } from "./alter-scene.js";
import { captionOf } from "./caption.js";
import { Draws, type Scene } from "./scene.js";
import { readVocabulary } from "./vocabulary.js";

/** False captions of each scene, so that whoever compares text with pictures cannot do without what GenEval asks about. */
const NEGATIVES = 3;

/** Write `negatives.jsonl` beside a folder's `captions.jsonl`: `{ alterations, captions }` a line, `NEGATIVES` short ones or fewer. */
async function makeNegatives(folder: string): Promise<void> {
  const vocabulary = readVocabulary();
  const { seed } = JSON.parse(readFileSync(join(folder, "scenes.json"), "utf8")) as { readonly seed: number };
  const out = await open(join(folder, "negatives.jsonl"), "w");
  let lines: string[] = [];
  let index = 0;
  for await (const line of createInterface({ input: createReadStream(join(folder, "captions.jsonl")) })) {
    const { scene } = JSON.parse(line) as { readonly scene: Scene };
    const draws = new Draws(seed ^ 0x0ddba11, index++);
    const found = new Map<string, string>();
    // Each kind in turn, the scene's own first kinds once more where it has few.
    for (const alteration of [...ALTERATIONS.toReversed(), ...ALTERATIONS, ...ALTERATIONS]) {
      const altered = found.size < NEGATIVES ? alteredScene(scene, alteration, draws, vocabulary) : undefined;
      if (altered !== undefined) found.set(captionOf(altered, "short", draws, vocabulary), alteration);
    }
    lines.push(`${JSON.stringify({ alterations: [...found.values()], captions: [...found.keys()] })}\n`);
    if (index % 10_000 === 0) {
      await out.write(lines.join(""));
      lines = [];
    }
  }
  await out.write(lines.join(""));
  await out.close();
}

const { values } = parseArgs({ options: { scenes: { type: "string" } } });
if (values.scenes === undefined) {
  console.error("usage: make-negatives --scenes DIR");
  process.exit(2);
}
await makeNegatives(values.scenes);
