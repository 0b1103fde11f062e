import assert from "node:assert/strict";
import { test } from "node:test";
import type { ImageFinished } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { Ledger, type Entry } from "./ledger.js";
import type { SoakReport } from "./soak.js";
import { violationsOf } from "./verdict.js";

const reference = { generation: { prompt: "a" }, imageCount: 2, digests: ["x", "y"], tokens: [[1], [2]] };
const image = (imageIndex: number, tokenDigest: string) => ({ imageIndex, tokenDigest }) as ImageFinished;
const both = [image(1, "y"), image(0, "x")];

function entry(change: Partial<Entry> = {}): Entry {
  return { behaviour: "patient", outcome: "complete", finished: both, retryDelayMs: undefined, reference, begunAt: 0, ...change };
}

function tallyOf(...entries: readonly Entry[]) {
  const ledger = new Ledger();
  for (const one of entries) ledger.enter(one);
  return ledger.tally;
}

test("what is as it must be is counted and nothing more", () => {
  const left = entry({ behaviour: "leaves", outcome: "left", finished: [image(1, "y")] });
  const { images, wrongImages, unanswered, wrongAnswers, outcomes } = tallyOf(entry(), left);
  assert.deepEqual({ images, wrongImages, unanswered, wrongAnswers }, { images: 3, wrongImages: 0, unanswered: 0, wrongAnswers: 0 });
  assert.deepEqual([outcomes.patient, outcomes.leaves], [{ complete: 1 }, { left: 1 }]);
});

test("a wrong image is noticed in a call that did not end well, too", () => {
  assert.equal(tallyOf(entry({ finished: [image(0, "y"), image(1, "y")] })).wrongImages, 1);
  assert.equal(tallyOf(entry({ behaviour: "cancels", outcome: "cancelled", finished: [image(1, "x")] })).wrongImages, 1);
});

test("a missing image, a missing answer and an answer out of place are noticed", () => {
  assert.equal(tallyOf(entry({ finished: [image(0, "x")] })).wrongAnswers, 1);
  assert.equal(tallyOf(entry({ outcome: "nothing", finished: [] })).unanswered, 1);
  for (const outcome of ["internal", "aborted", "cancelled", "deadline-exceeded"] as const) {
    assert.equal(tallyOf(entry({ outcome })).wrongAnswers, 1, outcome);
  }
});

test("unreachable is an answer only while something is down", () => {
  const ledger = new Ledger();
  const unreachable = (begunAt: number) => ledger.enter(entry({ outcome: "not-ready", finished: [], begunAt }));
  unreachable(performance.now());
  assert.equal(ledger.tally.wrongAnswers, 1);
  const end = ledger.beginOutage();
  unreachable(performance.now());
  const begunBefore = performance.now();
  end();
  unreachable(begunBefore);
  assert.equal(ledger.tally.wrongAnswers, 1);
  unreachable(performance.now() + 1);
  assert.equal(ledger.tally.wrongAnswers, 2);
});

test("a verdict finds whatever is wrong", () => {
  const fine: SoakReport = {
    ...tallyOf(entry()), requests: 1, seconds: 1, kills: 0, leakedImages: 0, leakedCacheShare: 0, isGeneratorAlive: true,
    residentBytes: [80, 100, 110, 120, 130, 130, 131, 131, 132, 132].map((mb) => mb * 1e6), filesBefore: 30, filesAfter: 31, wrongAfterwards: 0,
  };
  assert.deepEqual(violationsOf(fine), []);
  const faults: readonly Partial<SoakReport>[] = [
    { wrongImages: 1 }, { unanswered: 1 }, { wrongAnswers: 1 }, { leakedImages: 1 }, { leakedCacheShare: 0.1 },
    { isGeneratorAlive: false }, { wrongAfterwards: 1 }, { filesAfter: 60 }, { residentBytes: [80, 90, 100, 110, 120, 130, 140, 150, 160, 170].map((mb) => mb * 1e6) },
  ];
  for (const fault of faults) assert.equal(violationsOf({ ...fine, ...fault }).length, 1, JSON.stringify(fault));
});
