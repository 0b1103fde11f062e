import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ImageLoad, type LoadReport } from "#test/chaos/image-load.js";
import { balance, kill, rollingRestart } from "#test/chaos/scenarios.js";
import { startGeneratorPair, type GeneratorPair } from "#test/doubles/generator-pair.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

let pair: GeneratorPair;
let load: ImageLoad;

before(async () => {
  pair = await startGeneratorPair(await slowBundle(12));
  load = await ImageLoad.calm(pair.client);
});
after(() => pair.stop());

function assertWhole({ images, lost, wrong }: LoadReport): void {
  assert.ok(images >= 4);
  assert.deepEqual({ lost, wrong }, { lost: 0, wrong: 0 });
}

test("two generators share the images", async () => {
  const { report, balance: share } = await balance(pair, load);
  assertWhole(report);
  assert.ok(share > 0.5, `the quieter one makes ${share} of what the other makes`);
});

test("a generator killed under load costs no image", async () => assertWhole(await kill(pair, load)));

test("a rolling restart under load costs no image", async () => assertWhole(await rollingRestart(pair, load)));
