import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { RELOAD_MS, ReloadingFiles } from "./reloading-files.js";

function open(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "tessera-reload-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [a, b] = ["a", "b"].map((name) => join(folder, name));
  const write = (text: string) => [a, b].forEach((file) => writeFileSync(file, text));
  write("1");
  const clock = { now: 0 };
  const parsed: string[] = [];
  const files = new ReloadingFiles([a, b], ([first, second]) => {
    if (String(first) !== String(second)) throw new Error("they differ");
    parsed.push(String(first));
    return Number(first);
  }, () => clock.now);
  const { mock } = t.mock.method(process.stderr, "write", () => true);
  const lines = () => mock.calls.map(({ arguments: [line] }) => JSON.parse(String(line)) as { message: string; error?: string });
  return { a, b, write, clock, parsed, files, lines };
}

test("changed files are read again, a minute after the last look and not before", (t) => {
  const { write, clock, parsed, files, lines } = open(t);
  write("2");
  clock.now = RELOAD_MS - 1;
  assert.equal(files.latest, 1);
  clock.now = RELOAD_MS;
  assert.equal(files.latest, 2);
  clock.now = 5 * RELOAD_MS;
  assert.equal(files.latest, 2);
  assert.deepEqual(parsed, ["1", "2"], "what has not changed is not parsed again");
  assert.deepEqual(lines().map(({ message }) => message), ["files reloaded"]);
});

test("what cannot be read, or does not fit together, changes nothing until it does", (t) => {
  const { a, b, write, files, lines } = open(t);
  writeFileSync(a, "2");
  assert.equal(files.reload(), false);
  rmSync(b);
  assert.equal(files.reload(), false);
  assert.equal(files.latest, 1);
  const [first, second] = lines();
  assert.match(first.error!, /they differ/);
  assert.match(second.error!, /ENOENT/);
  write("3");
  assert.equal(files.reload(), true);
  assert.equal(files.latest, 3);
});
