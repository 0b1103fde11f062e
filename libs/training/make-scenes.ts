import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { captionOf } from "./caption.js";
import { CELL_PIXELS, renderScene } from "./render.js";
import { Draws, trainingScene, type Scene, type SceneMix } from "./scene.js";
import { SpriteCabinet } from "./sprite-cabinet.js";
import { readVocabulary, type Vocabulary } from "./vocabulary.js";

/** One part of the training stream: how many scenes and from which mix. */
interface Chapter extends SceneMix {
  readonly scenes: number;
}

interface SceneConfig {
  readonly imagePixels: number;
  readonly seed: number;
  readonly chapters: readonly Chapter[];
}

const byName = <T extends { readonly name: string }>(values: readonly T[], name: string): T =>
  values.find((value) => value.name === name)!;

/** Write the training stream: `images.u8` (`[N, side, side, 3]`) and `captions.jsonl`, two short and two long each. */
async function makeScenes(config: SceneConfig, packages: string, out: string): Promise<void> {
  const vocabulary = readVocabulary();
  const cabinet = new SpriteCabinet(packages, vocabulary);
  const side = config.imagePixels;
  const cells = side / CELL_PIXELS;
  mkdirSync(out, { recursive: true });
  const images = openSync(join(out, "images.u8"), "w");
  const captions = openSync(join(out, "captions.jsonl"), "w");
  let written = 0;
  let missing = 0;
  let index = 0;
  for (const chapter of config.chapters) {
    for (let n = 0; n < chapter.scenes; index++) {
      const scene = trainingScene(config.seed, index, vocabulary, chapter);
      const pixels = await drawScene(scene, side, cells, cabinet, vocabulary);
      if (pixels === undefined) { missing++; continue; }
      writeSync(images, pixels);
      const draws = new Draws(config.seed ^ 0x5ca1ab1e, index);
      const texts = (["short", "short", "long", "long"] as const).map((f) => captionOf(scene, f, draws, vocabulary));
      writeSync(captions, `${JSON.stringify({ captions: texts, scene })}\n`);
      n++;
      if (++written % 20_000 === 0) console.log(`${written} scenes`);
    }
  }
  closeSync(images);
  closeSync(captions);
  writeFileSync(join(out, "scenes.json"), JSON.stringify({ scenes: written, side, seed: config.seed }));
  console.log(`${written} scenes of ${side} px in ${out}; ${missing} left out because a style lacks the icon`);
}

async function drawScene(
  scene: Scene, side: number, cells: number, cabinet: SpriteCabinet, vocabulary: Vocabulary,
): Promise<Uint8Array | undefined> {
  const size = (scene.items.length === 1 && scene.count === 1 ? cells - 2 : cells / 2) * CELL_PIXELS;
  const sprites = await Promise.all(scene.items.map(({ object, colour }) => cabinet.sprite(
    object, colour === undefined ? undefined : byName(vocabulary.colours, colour), scene.style, size)));
  if (sprites.includes(undefined)) return undefined;
  return renderScene(scene, byName(vocabulary.backgrounds, scene.background), side, (item) => sprites[item]!);
}

const { values } = parseArgs({
  options: { config: { type: "string" }, icons: { type: "string" }, out: { type: "string" } },
});
if (values.config === undefined || values.icons === undefined || values.out === undefined) {
  console.error("usage: make-scenes --config FILE.json --icons NODE_MODULES --out DIR");
  process.exit(2);
}
const config = JSON.parse(readFileSync(values.config, "utf8")) as { readonly scenes: SceneConfig };
await makeScenes(config.scenes, values.icons, values.out);
