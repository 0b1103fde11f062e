import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBundle } from "#libs/bundle/bundle.js";
import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import type { TensorSource } from "#libs/convert/tensor-source.js";
import type { Latent } from "#libs/flow/latent.js";
import { cleanEstimate, renoised, type StageEnd } from "#libs/flow/stage-flow.js";
import { OnnxSession } from "#libs/onnx/session.js";
import { FlowHead, type FlowQuery } from "#services/decoder/flow-head.js";
import { sampleStage } from "#services/decoder/stage-sampler.js";
import { OnnxStageModel } from "#services/generator/stages/onnx-stage-model.js";
import type { StageMemory, StageRow } from "#services/generator/stages/stage-model.js";
import { largestDistance } from "#test/fixtures/goldens.js";
import { readStageGoldenFacts, readStageGoldens, tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";

/** The limit asked for is 1e-3; float32 in another order of summing stays far below. */
const TOLERANCE = 5e-5;

let manifest: StageManifest;
let model: OnnxStageModel;
let head: FlowHead;
let decoder: OnnxSession;
let goldens: TensorSource;
let guidanceScale: number;

before(async () => {
  const bundle = await openBundle(await tinyStageBundle());
  assert.ok(bundle.manifest.family === "ecar");
  manifest = bundle.manifest;
  model = await OnnxStageModel.open(bundle.path(manifest.transformer.file), manifest, {});
  head = await FlowHead.open(bundle.path(manifest.flowHead.file), manifest, {});
  decoder = await OnnxSession.open(bundle.path(manifest.decoder.file));
  goldens = await readStageGoldens();
  ({ guidanceScale } = await readStageGoldenFacts());
});

after(() => Promise.all([model.close(), head.close(), decoder.close()]));

async function latentOf(name: string, stage: number): Promise<Latent> {
  const { channels } = manifest.latent;
  const { height, width } = manifest.stages[stage];
  return { channels, height, width, values: await goldens.floats(name, [1, channels, height, width]) };
}

async function tokensOf(name: string): Promise<readonly number[]> {
  return goldens.integers(name, goldens.shape(name));
}

function near(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  const distance = largestDistance(actual, expected);
  assert.ok(distance < TOLERANCE, `${what} is ${distance} off`);
}

/** What the goldens hold one image of. */
interface Case {
  readonly name: string;
  readonly ids: string;
  readonly scale: "guided" | "plain";
  readonly hasFeedback: boolean;
}

const CASES: readonly Case[] = [
  { name: "guided", ids: "ids", scale: "guided", hasFeedback: true },
  { name: "plain", ids: "ids", scale: "plain", hasFeedback: true },
  { name: "mute", ids: "ids", scale: "plain", hasFeedback: false },
  { name: "short", ids: "short.ids", scale: "guided", hasFeedback: true },
];

/** Both branches of a case at a stage, given what the reference sampled before. */
async function rowsOf({ name, ids, scale, hasFeedback }: Case, stage: number, memory: readonly (readonly StageMemory[])[]): Promise<readonly StageRow[]> {
  const end = stage === 0 ? undefined : await latentOf(`${name}/end.${stage - 1}`, stage - 1);
  const latent = end && !hasFeedback ? { ...end, values: new Float32Array(end.values.length) } : end;
  const texts = scale === "guided" ? [await tokensOf(ids), await tokensOf("unconditional.ids")] : [await tokensOf(ids)];
  return texts.map((tokens, row) => ({ tokens, textCount: 16, memory: memory.map((rows) => rows[row]), latent }));
}

for (const each of CASES) {
  test(`${each.name}: every token map is PyTorch's, each stage run once beside what it remembers`, async () => {
    const memory: StageMemory[][] = [];
    for (const [stage, { height, width }] of manifest.stages.entries()) {
      const outputs = await model.forward(stage, await rowsOf(each, stage, memory));
      for (const [row, branch] of ["conditional", "unconditional"].slice(0, outputs.length).entries()) {
        const shape = [1, height * width, manifest.transformer.tokenMapChannels];
        near(outputs[row].tokenMap, await goldens.floats(`${each.name}/${branch}.map.${stage}`, shape), `${branch} map ${stage}`);
      }
      memory.push(outputs.flatMap((output) => output.memory ?? []));
    }
  });
}

async function mapOf(name: string, branch: string, stage: number): Promise<Float32Array> {
  const { height, width } = manifest.stages[stage];
  return goldens.floats(`${name}/${branch}.map.${stage}`, [1, height * width, manifest.transformer.tokenMapChannels]);
}

test("every velocity is PyTorch's, one by one and in one batch with others", async () => {
  for (const [stage, { steps }] of manifest.stages.entries()) {
    const queries: FlowQuery[] = [];
    const expected: Float32Array[] = [];
    for (let number = 0; number < 2 * steps; number++) {
      const name = `guided/flow.${stage}.${number}`;
      const [time] = await goldens.floats(`${name}.time`, [1]);
      const latent = await latentOf(`${name}.x`, stage);
      for (const branch of ["conditional", "unconditional"].filter((word) => goldens.has(`${name}.${word}`))) {
        queries.push({ stage, latent, time, tokenMap: await mapOf("guided", branch, stage) });
        expected.push((await latentOf(`${name}.${branch}`, stage)).values);
      }
    }
    const together = await Promise.all(queries.map((query) => head.velocity(query)));
    for (const [i, query] of queries.entries()) {
      near(together[i].values, expected[i], `velocity ${i} of stage ${stage}`);
      near((await head.velocity(query)).values, together[i].values, "the velocity alone");
    }
  }
});

for (const each of CASES) {
  test(`${each.name}: under the same noise the whole image is PyTorch's, and so is each preview`, async () => {
    const { name, scale } = each;
    const memory: StageMemory[][] = [];
    let before: StageEnd | undefined;
    for (const [stage, section] of manifest.stages.entries()) {
      const rows = await rowsOf(each, stage, memory);
      const own = before && each.hasFeedback ? rows.map((row) => ({ ...row, latent: before!.state })) : rows;
      const outputs = await model.forward(stage, own);
      memory.push(outputs.flatMap((output) => output.memory ?? []));
      const white = await latentOf(`noise.${stage}`, stage);
      const start = before === undefined ? white : renoised(before.state, manifest.stages[stage - 1], white);
      near(start.values, (await latentOf(`${name}/start.${stage}`, stage)).values, `start ${stage}`);
      const maps = { conditional: outputs[0].tokenMap, unconditional: outputs[1]?.tokenMap };
      const signal = new AbortController().signal;
      before = await sampleStage(head, section, { stage, maps, start, guidanceScale: scale === "guided" ? guidanceScale : 1, signal });
      near(before.state.values, (await latentOf(`${name}/end.${stage}`, stage)).values, `end ${stage}`);
      near(cleanEstimate(before.last, section).values, (await latentOf(`${name}/preview.${stage}`, stage)).values, `preview ${stage}`);
    }
    const { channels, height, width, values } = before!.state;
    const { mean, scale: factor } = manifest.latent;
    const latent = values.map((value, i) => value * factor[Math.floor(i / (height * width))] + mean[Math.floor(i / (height * width))]);
    near(latent, await goldens.floats(`${name}/latent`, [1, channels, height, width]), "the decoder's latent");
    const { pixels } = await decoder.run({ latent: { type: "float32", data: latent, dims: [1, channels, height, width] } });
    near(pixels.data as Float32Array, await goldens.floats(`${name}/pixels`, [1, 3, manifest.image.height, manifest.image.width]), "pixels");
  });
}

test("a query that is given up while it waits is never run; its neighbours are", async () => {
  const query = async (stage: number): Promise<FlowQuery> => (
    { stage, latent: await latentOf(`guided/start.${stage}`, stage), time: 0.5, tokenMap: await mapOf("guided", "conditional", stage) }
  );
  const [coarse, fine] = [await query(0), await query(1)];
  const [coarseAlone, fineAlone] = [await head.velocity(coarse), await head.velocity(fine)];
  const abort = new AbortController();
  const asked = [head.velocity(coarse), head.velocity(fine, { signal: abort.signal }), head.velocity(fine), head.velocity(coarse)];
  const all = Promise.allSettled(asked);
  abort.abort(new Error("left"));
  const [first, left, second, again] = await all;
  assert.ok(left.status === "rejected" && (left.reason as Error).message === "left");
  assert.deepEqual([first, second, again].map((outcome) => outcome.status === "fulfilled" && outcome.value), [coarseAlone, fineAlone, coarseAlone]);
});

test("an image's maps are the same beside other images, bit by bit", async () => {
  const first = await rowsOf(CASES[0], 0, []);
  const others = await rowsOf(CASES[3], 0, []);
  const alone = await model.forward(0, first);
  const together = await model.forward(0, [...others, ...first]);
  alone.forEach(({ tokenMap, memory }, row) => {
    assert.deepEqual(together[row + 2].tokenMap, tokenMap);
    assert.deepEqual(together[row + 2].memory, memory);
  });
});
