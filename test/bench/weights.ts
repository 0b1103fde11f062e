import { readFile } from "node:fs/promises";
import { openTokenBundle, type TokenBundle } from "#libs/bundle/bundle.js";
import { invalidRequest } from "#libs/errors/errors.js";
import { TransformerRunner } from "#libs/onnx/transformer-runner.js";
import { TextTokenizer, type TokenizerFile } from "#services/tokenizer/text-tokenizer.js";
import { measureTransformer } from "./measured-transformer.js";
import { rounded, table } from "./table.js";
import { weightDistance, type Prompts } from "./weight-distance.js";
import type { BenchOptions } from "./where-time-goes.js";

const PROMPTS = ["a dog", "a red apple", "three blue fish on a yellow background", "a key to the left of a crown"];

/**
 * What one bundle's weight type costs and gains against another's (fp32, say): size, load time, memory, step time; and how
 * far its logits, its guided law and the tokens drawn from it are, position by position.
 */
export async function weights({ bundle, against, rounds, guidance }: BenchOptions): Promise<void> {
  if (against === undefined) throw invalidRequest("--against", "the folder of the bundle to compare with");
  const bundles = [await openTokenBundle(against), await openTokenBundle(bundle)];
  const { image, defaults } = bundles[0].manifest;
  const count = image.gridHeight * image.gridWidth;
  const guidanceScale = guidance ?? defaults.guidanceScale;
  const costs = [];
  for (const each of bundles) costs.push(await measureTransformer(each.folder, { pasts: [count], steps: 20, threads: 1 }));
  const runners = await Promise.all(bundles.map(({ manifest, path }) =>
    TransformerRunner.open(path(manifest.transformer.file), manifest.transformer)));
  const tokenOffset = image.tokenOffset;
  const distance = await weightDistance(runners[0], runners[1], {
    prompts: await promptsOf(bundles[0], rounds), count, tokenOffset, guidanceScale,
  });
  await Promise.all(runners.map((runner) => runner.close()));
  const names = bundles.map(({ manifest }) => `${manifest.name} (${manifest.transformer.weights})`);
  process.stdout.write(`${names[1]} against ${names[0]}, ${distance.positions} positions at guidance ${guidanceScale}\n\n`);
  process.stdout.write(table([
    ["", ...names],
    ["file MB", ...costs.map(({ fileBytes }) => (fileBytes / 1e6).toFixed(1))],
    ["load ms", ...costs.map(({ loadMs }) => loadMs.toFixed(0))],
    ["load mapped ms", ...costs.map(({ mappedLoadMs }) => mappedLoadMs.toFixed(0))],
    ["resident MB", ...costs.map(({ residentBytes }) => (residentBytes / 1e6).toFixed(0))],
    ["guided step ms", ...costs.map(({ steps }) => steps[0].medianMs.toFixed(2))],
    ...Object.entries(distance).map(([name, value]) => [name, "", value.toPrecision(3)]),
  ]));
  process.stdout.write(`${JSON.stringify(rounded({ bench: "weights", bundles: names, guidanceScale, ...distance, costs }))}\n`);
}

async function promptsOf({ manifest, path }: TokenBundle, count: number): Promise<readonly Prompts[]> {
  const file = JSON.parse(await readFile(path("tokenizer.json"), "utf8")) as TokenizerFile;
  const tokenizer = new TextTokenizer(file, manifest.text);
  return Array.from({ length: count }, (_, round) =>
    [tokenizer.encodePrompt(PROMPTS[round % PROMPTS.length]), tokenizer.encodeNegativePrompt(undefined)]);
}
