import assert from "node:assert/strict";
import { appendFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Journal } from "./journal.js";

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-journal-"));
});
after(() => rm(folder, { recursive: true }));

const never = (): Promise<never> => assert.fail("measured again");

test("a run that is resumed keeps what was measured, a line cut short left out", async () => {
  const path = join(folder, "cut");
  const first = await Journal.open(path, "flags", { resume: false });
  assert.equal(await first.once("a", async () => 1), 1);
  await assert.rejects(first.once("b", () => Promise.reject(new Error("interrupted"))));
  await appendFile(path, '{"name":"c","res');
  const second = await Journal.open(path, "flags", { resume: true });
  assert.equal(await second.once("a", never), 1);
  assert.equal(await second.once("b", async () => 2), 2);
  assert.equal(await second.once("c", async () => 3), 3);
  const third = await Journal.open(path, "flags", { resume: true });
  assert.deepEqual([await third.once("b", never), await third.once("c", never)], [2, 3]);
});

test("a run of other flags, or one that is not resumed, begins anew", async () => {
  const path = join(folder, "other");
  await (await Journal.open(path, "flags", { resume: false })).once("a", async () => 1);
  assert.equal(await (await Journal.open(path, "other flags", { resume: true })).once("a", async () => 2), 2);
  assert.equal(await (await Journal.open(path, "other flags", { resume: false })).once("a", async () => 3), 3);
});
