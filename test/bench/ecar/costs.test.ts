import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TINY_STAGE_FOLDER, tinyStageBundle } from "#test/fixtures/tiny-stage-bundle.js";
import { ditMacs, ecarMacs } from "./costs.js";
import { DitModel } from "./dit-model.js";
import { EcarModel } from "./ecar-model.js";

const LOAD = { prompts: ["a star"], guidanceScale: 3 };

let folder: string;
let model: EcarModel;
let dit: DitModel;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-costs-"));
  model = await EcarModel.open(await tinyStageBundle(), { threads: 1 });
  dit = await DitModel.open(join(TINY_STAGE_FOLDER, "dit"), folder, { threads: 1, weights: "fp32" });
});

after(async () => {
  await Promise.all([model.close(), dit.close()]);
  await rm(folder, { recursive: true });
});

/** A layer of so many queries and keys: projections, attention, a gated feed-forward block of 48. */
function layer(queries: number, keys: number, width: number, keyWidth: number): number {
  return queries * (2 * width * width + 2 * width * keyWidth + 3 * width * 48) + 2 * queries * keys * width;
}

/** What turns the time into vectors of a network that denoises. */
function conditioning(width: number): number {
  return 256 * width + width * width + 6 * width * width;
}

test("an image of E-CAR takes what its sizes say: the transformer once a stage, the head at every evaluation", async () => {
  const text = 16;
  let [transformer, flowHead, past] = [0, 0, 0];
  for (const [cells, evaluations, branches] of [[1, 2, 1], [4, 4, 2], [16, 4, 2]] as const) {
    const own = past === 0 ? text + cells : cells;
    past += own;
    transformer += 2 * (2 * layer(own, past, 32, 16) + cells * (4 * 32 + 32 * 12));
    flowHead += evaluations * branches * (2 * layer(cells, cells, 16, 16) + conditioning(16) + cells * (4 * 16 + 12 * 16 + 16 * 4));
  }
  assert.deepEqual(await ecarMacs(model, LOAD), { transformer, flowHead, total: transformer + flowHead });
});

test("an image of the baseline takes its whole network at every evaluation, and its text once", async () => {
  const [prompt, nothing] = model.textsOf(LOAD.prompts[0]!);
  const text = Math.max(prompt.length, nothing.length);
  const each = 2 * layer(16, text + 16, 32, 16) + conditioning(32) + 16 * (4 * 32 + 32 * 4);
  assert.equal(await ditMacs(dit, model, LOAD, 25), 2 * (2 * layer(text, text, 32, 16) + 25 * each));
});

test("one branch takes half, and no pyramid takes more", async () => {
  const guided = await ecarMacs(model, LOAD);
  const plain = await ecarMacs(model, { ...LOAD, guidanceScale: 1 });
  assert.equal(plain.transformer, guided.transformer / 2);
  assert.ok((await ecarMacs(model, LOAD, false)).total > 1.5 * guided.total);
});
