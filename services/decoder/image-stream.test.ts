import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "#libs/errors/errors.js";
import {
  aborts, chunk, collect, DIGEST, finished, gate, Neighbours, outline, script, started, stream, wholeImage, type Answer, type Event,
} from "#test/doubles/scripted-stream.js";

test("events go through, tokens become progress, then the image and its end", async () => {
  const neighbours = new Neighbours(script({ case: "queued", value: { position: 3 } }, started, chunk(0, [1, 2, 3]), chunk(3, [4, 5, 6, 7, 8]), finished()));
  const answers = await collect(stream(neighbours, { includeTokens: true }));
  assert.deepEqual(outline(answers), ["queued", "started", "progress", "progress", "image 0, 4 rows", "imageFinished"]);
  const [queued, , progress, , , end] = answers;
  assert.ok(queued.case === "queued" && progress.case === "progress" && end.case === "imageFinished");
  assert.equal(queued.value.position, 3);
  assert.deepEqual([progress.value.tokensDone, progress.value.tokensTotal], [3, 8]);
  assert.deepEqual(end.value.tokens, [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.match(end.value.tokenDigest, /^[0-9a-f]{64}$/);
  assert.equal(end.value.timings?.generation?.decodeMs, 5);
  assert.equal(neighbours.openStreams, 0);
});

test("images may come interleaved; each is sent in one piece as soon as it is complete", async () => {
  const events = [started, chunk(0, [1, 1, 1, 1], 1), chunk(0, [2, 2], 0), chunk(4, [1, 1, 1, 1], 1), finished(1), chunk(2, [2, 2, 2, 2, 2, 2], 0), finished(0)];
  const answers = outline(await collect(stream(new Neighbours(script(...events)), { imageCount: 2 })));
  assert.equal(answers.filter((name) => name === "imageFinished").length, 2);
  for (const name of ["image 0, 4 rows", "image 1, 4 rows"]) assert.equal(answers[answers.indexOf(name) + 1], "imageFinished");
});

test("an image goes on from its prefix: progress, previews, tokens and digest are those of the whole image", async () => {
  const whole = await collect(stream(new Neighbours(script(started, ...wholeImage())), { includeTokens: true }));
  const neighbours = new Neighbours(script(started, chunk(5, [6]), chunk(6, [7, 8]), finished()));
  const answers = await collect(stream(neighbours, {
    prefixes: [{ imageIndex: 0, tokens: [1, 2, 3, 4, 5] }], previewIntervalRows: 1, includeTokens: true,
  }));
  const progress = answers.flatMap((answer) => (answer.case === "progress" ? [answer.value] : []));
  assert.deepEqual(progress.map(({ tokensDone, tokens }) => [tokensDone, tokens]), [[6, [6]], [8, [7, 8]]]);
  assert.deepEqual(neighbours.detokenized[0].slice(0, 6), [1, 2, 3, 4, 5, 6], "the preview shows the prefix too");
  const ends = [whole, answers].map((all) => all.at(-1)!);
  const [of, mine] = ends.map((end) => (end.case === "imageFinished" ? end.value : assert.fail(end.case)));
  assert.deepEqual(mine.tokens, of.tokens);
  assert.equal(mine.tokenDigest, of.tokenDigest);
});

test("prefixes of some images leave the others alone, and none is shown before the generator has accepted it", async () => {
  const events = [started, chunk(2, [1, 1, 1, 1, 1, 1], 1), chunk(0, [2, 2, 2, 2, 2, 2, 2, 2], 0), finished(1), finished(0)];
  const prefixes = [{ imageIndex: 1, tokens: [9, 9] }, { imageIndex: 0, tokens: [] }];
  const answers = await collect(stream(new Neighbours(script(...events)), { imageCount: 2, prefixes, includeTokens: true }));
  const tokens = answers.flatMap((answer) => (answer.case === "imageFinished" ? [answer.value.tokens] : []));
  assert.deepEqual(tokens.sort(), [[2, 2, 2, 2, 2, 2, 2, 2], [9, 9, 1, 1, 1, 1, 1, 1]]);
  const refused = new AppError("invalid-request", "no such image");
  const never = new Neighbours(async function* () {
    yield { case: "queued", value: { position: 1 } };
    throw refused;
  });
  await assert.rejects(collect(stream(never, { prefixes: [{ imageIndex: 7, tokens: [99] }] })), refused);
});

test("tokens come with progress only for those who ask", async () => {
  const answers = await collect(stream(new Neighbours(script(started, ...wholeImage()))));
  assert.ok(answers.every((answer) => !(answer.case === "progress" || answer.case === "imageFinished") || answer.value.tokens.length === 0));
});

test("previews of images that come interleaved show each image's own tokens", async () => {
  const events = [started, chunk(0, [1, 1], 0), chunk(0, [2, 2], 1), chunk(2, [1, 1], 0), chunk(2, [2, 2], 1)];
  const previews = [gate(), gate()];
  const neighbours = new Neighbours(async function* () {
    yield* events;
    await Promise.all(previews.map(({ passed }) => passed));
    yield* [chunk(4, [2, 2, 2, 2], 1), finished(1), chunk(4, [1, 1, 1, 1], 0), finished(0)];
  });
  const answers: Answer[] = [];
  for await (const answer of stream(neighbours, { imageCount: 2, previewIntervalRows: 2 })) {
    answers.push(answer);
    if (answer.case === "imageChunk" && answer.value.preview) previews[answer.value.imageIndex].open();
  }
  assert.deepEqual(new Set(neighbours.detokenized.map((tokens) => tokens.join(""))), new Set(["11111111", "22222222"]));
  assert.deepEqual(outline(answers).filter((name) => name.startsWith("preview")).sort(), ["preview 0, 2 rows", "preview 1, 2 rows"]);
});

test("a preview comes every k rows when there is time, from the tokens so far", async () => {
  const drawn = [gate(), gate(), gate()];
  const neighbours = new Neighbours(async function* () {
    yield started;
    for (let row = 0; row < 4; row++) {
      yield chunk(row * 2, [row, row + 1]);
      // Stands for a slow generator: goes on when the preview of this row has been received.
      if (row < 3) await drawn[row].passed;
    }
    yield finished();
  });
  const seen: Answer[] = [];
  for await (const answer of stream(neighbours, { previewIntervalRows: 1 })) {
    seen.push(answer);
    if (answer.case === "imageChunk" && answer.value.preview) drawn[answer.value.rowsDone - 1].open();
  }
  assert.deepEqual(outline(seen).filter((name) => /preview|image /.test(name)),
    ["preview 0, 1 rows", "preview 0, 2 rows", "preview 0, 3 rows", "image 0, 4 rows"]);
  assert.deepEqual(neighbours.detokenized[1], [0, 1, 1, 2, 1, 1, 1, 1]);
  const end = seen.at(-1);
  assert.ok(end?.case === "imageFinished" && (end.value.timings?.previewMs ?? 0) > 0);
});

test("drawing previews never holds up tokens: the newest waits, older ones are left out", async () => {
  const release = gate();
  const newestSeen = gate();
  const neighbours = new Neighbours(async function* () {
    yield started;
    for (const row of [0, 1, 2]) yield chunk(row * 2, [row, row]);
    // Reached only if the decoder took three rows while its first preview was still being drawn.
    release.open();
    await newestSeen.passed;
    yield chunk(6, [3, 3]);
    yield finished();
  }, () => release.passed);
  const names: string[] = [];
  for await (const answer of stream(neighbours, { previewIntervalRows: 1 })) {
    names.push(...outline([answer]));
    if (names.at(-1) === "preview 0, 3 rows") newestSeen.open();
  }
  assert.deepEqual(names.filter((name) => name.startsWith("preview")), ["preview 0, 1 rows", "preview 0, 3 rows"]);
});

test("a preview that waits when its image is complete is left out", async () => {
  const release = gate();
  const neighbours = new Neighbours(async function* () {
    yield started;
    yield chunk(0, [1, 1]);
    yield chunk(2, [1, 1]);
    yield chunk(4, [1, 1, 1, 1]);
    release.open();
    yield finished();
  }, () => release.passed);
  const names = outline(await collect(stream(neighbours, { previewIntervalRows: 1 })));
  assert.ok(!names.includes("preview 0, 2 rows"));
  assert.equal(neighbours.detokenized.length, 2);
});

test("a slow client holds up the generator and loses nothing", async () => {
  let sent = 0;
  const neighbours = new Neighbours(async function* () {
    yield started;
    for (let position = 0; position < 8; position++) {
      sent++;
      yield chunk(position, [position]);
    }
    yield finished();
  });
  const answers = stream(neighbours);
  await answers.next();
  await answers.next();
  await new Promise(setImmediate);
  assert.ok(sent <= 2, `${sent} chunks were taken while the client had read one`);
  assert.equal((await collect(answers)).length, 7 + 2);
});

test("a generator with another bundle is refused, and so is one that breaks its promises", async () => {
  const broken: readonly [events: readonly Event[], kind: string, message: RegExp][] = [
    [[{ case: "started", value: { model: { digest: "e".repeat(64) }, imageTokenCount: 8 } }], "mismatch", /another bundle: e+, not d+/],
    [[{ case: "started", value: { imageTokenCount: 8 } }], "mismatch", /another bundle/],
    [[{ case: "started", value: { model: { digest: DIGEST }, imageTokenCount: 9 } }], "internal", /8 image tokens, got 9/],
    [[chunk(0, [1])], "internal", /before it started/],
    [[started, chunk(1, [1])], "internal", /must start at 0, got 1/],
    [[started, chunk(0, [10])], "internal", /0 \.\. 9, got 10/],
    [[started, chunk(0, [1], 1)], "internal", /image 1 of 1/],
    [[started, chunk(0, [1]), finished()], "internal", /finished image 0 at 1 tokens/],
    [[started, { case: "tokenMap", value: {} }], "internal", /tokenMap/],
    [[started, chunk(0, [1])], "aborted", /ended before image 0/],
    [[], "aborted", /ended before image 0/],
  ];
  for (const [events, kind, message] of broken) {
    const neighbours = new Neighbours(script(...events));
    await assert.rejects(collect(stream(neighbours)), { kind, message });
    assert.equal(neighbours.openStreams, 0);
  }
});

test("whenever the caller leaves, the generator's stream is closed and drawing is given up", async () => {
  const never = new Promise<void>(() => {});
  const hanging = async function* (signal: AbortSignal): AsyncGenerator<Event> {
    yield started;
    yield chunk(0, [1, 1]);
    await aborts(signal);
  };
  const moments: readonly [name: string, make: () => Neighbours][] = [
    ["waiting for tokens", () => new Neighbours(hanging)],
    ["drawing a preview", () => new Neighbours(hanging, () => never)],
    ["drawing the image", () => new Neighbours(script(started, ...wholeImage()), () => never)],
  ];
  for (const [name, make] of moments) {
    const neighbours = make();
    const abort = new AbortController();
    const reason = new Error(`left while ${name}`);
    const answers = stream(neighbours, { previewIntervalRows: 1 }, abort.signal);
    await answers.next();
    await answers.next();
    const rest = collect(answers);
    await new Promise(setImmediate);
    abort.abort(reason);
    await assert.rejects(rest, { kind: "internal", cause: reason });
    assert.equal(neighbours.openStreams, 0, name);
  }
});

test("a consumer that stops reading leaves nothing open", async () => {
  const neighbours = new Neighbours(async function* (signal) {
    yield started;
    await aborts(signal);
  });
  for await (const answer of stream(neighbours)) {
    assert.equal(answer.case, "started");
    break;
  }
  assert.equal(neighbours.openStreams, 0);
});

test("an error of the detokenizer ends the call as it is, whatever the generator still does", async () => {
  const failure = new Error("no pixels today");
  const neighbours = new Neighbours(async function* (signal) {
    yield started;
    yield* wholeImage();
    await aborts(signal);
  }, () => Promise.reject(failure));
  await assert.rejects(collect(stream(neighbours, { imageCount: 2 })), failure);
  assert.equal(neighbours.openStreams, 0);
});
