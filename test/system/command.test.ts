import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import sharp from "sharp";
import { childrenOf, isAlive, runCommandLine, startCommand } from "#test/doubles/run-command.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";
import { events, firstEvent, startTestStack } from "#test/doubles/start-stack.js";
import { tinyBundle } from "#test/fixtures/tiny-bundle.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-command-"));
after(() => rmSync(folder, { recursive: true, force: true }));

test("generate starts the services, writes the PNG and leaves nothing behind", async () => {
  const out = join(folder, "one", "apples.png");
  const command = startCommand("generate", ["three red apples", "--bundle", await tinyBundle(), "--seed", "7", "--out", out]);
  await command.shown("starting the services");
  const services = childrenOf(command.pid);
  const { code, stdout } = await command.ended;
  assert.equal(code, 0);
  assert.match(stdout, /apples\.png\n.*32 x 32 pixels, seed 7, tiny, guidance/);
  const { format, width, height } = await sharp(out).metadata();
  assert.deepEqual({ format, width, height }, { format: "png", width: 32, height: 32 });
  assert.deepEqual(services.filter(isAlive), []);
});

test("generate --target --json --images writes the images, a contact sheet and one line of JSON", async (t) => {
  const stack = await startTestStack({ bundle: await slowBundle(32) });
  t.after(() => stack.stop());
  const [out, previews] = [join(folder, "several", "cats.webp"), join(folder, "previews")];
  const { code, stdout, stderr } = await runCommandLine("generate", [
    "a cat", "--target", stack.stack.decoder.address, "--json", "--images", "2", "--seed", "18446744073709551615",
    "--guidance", "1.5", "--temperature", "0.9", "--top-k", "8", "--top-p", "0.9", "--out", out, "--previews", previews,
    "--draft-window", "4", "--priority", "high",
  ]);
  assert.equal(code, 0, stderr);
  const report = JSON.parse(stdout.trimEnd().split("\n").at(-1)!);
  const { images, seconds, startSeconds, decodeSteps, draftedTokens, acceptedTokens, ...rest } = report;
  assert.deepEqual(rest, {
    file: out, files: [out.replace(".webp", "-0.webp"), out.replace(".webp", "-1.webp")], width: 256, height: 256,
    seed: "18446744073709551615", tokens: 2048, model: "tiny", guidanceScale: 1.5, temperature: 0.9, topK: 8, topP: 0.9,
  });
  assert.ok(seconds > startSeconds);
  for (const { timings } of images) {
    assert.equal(timings.decodeSteps + timings.acceptedTokens, 1023, "the first token comes with prefill");
    assert.ok(timings.draftedTokens >= timings.acceptedTokens && timings.draftedTokens > 0);
  }
  assert.deepEqual([decodeSteps, draftedTokens, acceptedTokens], ["decodeSteps", "draftedTokens", "acceptedTokens"].map((figure) => (
    images[0].timings[figure] + images[1].timings[figure]
  )));
  assert.notEqual(images[0].tokenDigest, images[1].tokenDigest);
  const sheet = await sharp(readFileSync(out)).metadata();
  assert.deepEqual([sheet.format, sheet.width, sheet.height], ["webp", 2 * 256 + 3 * 8, 256 + 2 * 8]);
  assert.match(readdirSync(previews)[0], /^0-\d{3}\.jpg$/);
  assert.match(stderr, /2048\/2048 tokens/);
});

test("generate shows its place in the queue while it waits, and how long that may take", async (t) => {
  const stack = await startTestStack({ bundle: await slowBundle(64), env: { TESSERA_MAX_RUNNING: "1" } });
  t.after(() => stack.stop());
  const running = events(stack, { imageCount: 16 });
  await firstEvent(running, "progress");
  const command = startCommand("generate", ["a cat", "--target", stack.stack.decoder.address, "--out", join(folder, "late.png")]);
  await command.shown("waiting in place 1, about ");
  command.kill("SIGINT");
  const { code, stderr } = await command.ended;
  assert.equal(code, 130);
  assert.match(stderr, /waiting in place 1, about [1-9]\d* s\n/);
  await running.return(undefined);
});

for (const [name, args, message] of [
  ["an unknown flag", ["x", "--bogus"], /--bogus/],
  ["no prompt", [], /PROMPT must not be empty/],
  ["a flag out of range", ["x", "--images", "17"], /`--images` must be a whole number 1 \.\. 16, got "17"/],
] as const) {
  test(`generate with ${name} is a usage error: exit code 2, nothing on stdout`, async () => {
    const { code, stdout, stderr } = await runCommandLine("generate", args);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, message);
  });
}

test("what only the model can refuse is told by its flag", async () => {
  const { code, stderr } = await runCommandLine("generate", ["x", "--top-k", "99", "--bundle", await tinyBundle()]);
  assert.equal(code, 2);
  assert.match(stderr, /`--top-k` must be 0 \.\. 36, got 99/);
});

test("a target that nobody listens on says what to do", async () => {
  const { code, stderr } = await runCommandLine("generate", ["x", "--target", "127.0.0.1:1"]);
  assert.equal(code, 1);
  assert.match(stderr, /127\.0\.0\.1:1.*npm start/);
});

test("a place that cannot be written to is told before anything is generated", async () => {
  const file = join(folder, "a-file");
  writeFileSync(file, "");
  for (const args of [["--out", join(file, "dog.png")], ["--previews", file]]) {
    const { code, stderr } = await runCommandLine("generate", ["a dog", ...args]);
    assert.equal(code, 1);
    assert.match(stderr, /^error: cannot write /);
  }
});

test("words that would be dropped, and names that no service would take, are refused", async () => {
  const { code, stderr } = await runCommandLine("tokens", ["a", "red", "dog", "--target", "127.0.0.1:1"]);
  assert.deepEqual([code, /PROMPT must be one argument, got 3/.test(stderr)], [2, true], stderr);
  for (const name of ["web app", "", "team/web", "x".repeat(65)]) {
    const key = await runCommandLine("key", [name, "decoder"]);
    assert.deepEqual([key.code, key.stdout, /`NAME` must be 1 \.\. 64 letters/.test(key.stderr)], [2, "", true], key.stderr);
  }
});

test("services that cannot start say why", async () => {
  const { code, stderr } = await runCommandLine("generate", ["x", "--bundle", folder]);
  assert.equal(code, 1);
  assert.match(stderr, /ended with exit code 1\n.*model\.json/s);
});

for (const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGKILL", null]] as const) {
  test(`generate leaves no process behind on ${signal} while it decodes`, async () => {
    const args = ["x", "--bundle", await slowBundle(64), "--images", "16", "--out", join(folder, "never.png")];
    const command = startCommand("generate", args);
    await command.shown("0/65536 tokens");
    const services = childrenOf(command.pid);
    assert.equal(services.length, 3);
    command.kill(signal);
    assert.equal((await command.ended).code, expected);
    // After SIGKILL nobody waits for them: they notice by themselves, at once.
    while (services.some(isAlive));
  });
}

test("a service that dies ends generate with its last words, and the others go too", async () => {
  const command = startCommand("generate", ["x", "--bundle", await slowBundle(64), "--images", "16"]);
  await command.shown("0/65536 tokens");
  const services = childrenOf(command.pid);
  process.kill(services[1], "SIGKILL");
  const { code, stderr } = await command.ended;
  assert.equal(code, 1);
  assert.match(stderr, /error: the generator ended with SIGKILL/);
  assert.deepEqual(services.filter(isAlive), []);
});

test("serve runs one service until it is told to stop", async () => {
  const command = startCommand("serve", ["tokenizer", "--address", "127.0.0.1:0", "--bundle", await tinyBundle()]);
  await command.shown('"message":"serving"');
  command.kill("SIGTERM");
  const { code, stdout } = await command.ended;
  assert.equal(code, 0);
  assert.match(JSON.parse(stdout).address, /^127\.0\.0\.1:[1-9]\d*$/);
  assert.equal((await runCommandLine("serve", ["painter"])).code, 2);
});
