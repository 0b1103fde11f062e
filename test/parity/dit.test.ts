import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { TensorSource } from "#libs/convert/tensor-source.js";
import type { Latent } from "#libs/flow/latent.js";
import { DitModel } from "#test/bench/ecar/dit-model.js";
import { largestDistance } from "#test/fixtures/goldens.js";
import { readStageGoldenFacts, readStageGoldens, TINY_STAGE_FOLDER } from "#test/fixtures/tiny-stage-bundle.js";

const TOLERANCE = 5e-5;
/** As make_tiny_ecar.py sampled it. */
const STEPS = 4;

let folder: string;
let model: DitModel;
let goldens: TensorSource;
let prompt: readonly number[];
let nothing: readonly number[];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-dit-"));
  model = await DitModel.open(join(TINY_STAGE_FOLDER, "dit"), folder, { threads: 1, weights: "fp32" });
  goldens = await readStageGoldens();
  prompt = await goldens.integers("ids", goldens.shape("ids"));
  nothing = await goldens.integers("unconditional.ids", goldens.shape("unconditional.ids"));
});

after(async () => {
  await model.close();
  await rm(folder, { recursive: true });
});

async function latentOf(name: string): Promise<Latent> {
  return { channels: 4, height: 4, width: 4, values: await goldens.floats(name, [1, 4, 4, 4]) };
}

test("the baseline's velocity is PyTorch's, alone and beside a shorter text", async () => {
  const [x, expected] = [await latentOf("dit.velocity.x"), await latentOf("dit.velocity.out")];
  const [time] = await goldens.floats("dit.velocity.time", [1]);
  for (const rows of [[prompt], [nothing, prompt]]) {
    const velocities = await model.velocities(rows.map(() => x), time!, await model.read(rows));
    const distance = largestDistance(velocities.at(-1)!.values, expected.values);
    assert.ok(distance < TOLERANCE, `${distance} off`);
  }
});

for (const solver of ["euler", "midpoint"] as const) {
  test(`the baseline's latent by ${solver} is PyTorch's, in a batch too`, async () => {
    const { guidanceScale } = await readStageGoldenFacts();
    const noise = await latentOf("dit.noise");
    const expected = await latentOf(`dit.${solver}`);
    const other = { ...noise, values: noise.values.map((value) => -value) };
    const [, latent] = await model.sample([other, noise], [nothing, prompt], nothing, { steps: STEPS, solver, guidanceScale });
    const distance = largestDistance(latent!.values, expected.values);
    assert.ok(distance < TOLERANCE, `${distance} off`);
  });
}
