import assert from "node:assert/strict";
import { after, test } from "node:test";
import sharp from "sharp";
import { makeImages, startTestStack } from "#test/doubles/start-stack.js";

const stack = await startTestStack();
after(() => stack.stop());

test("a prompt becomes a PNG of the model's size", async () => {
  const { pictures: [{ data }], finished } = await makeImages(stack);
  const { format, width, height, channels } = await sharp(data).metadata();
  assert.deepEqual({ format, width, height, channels }, { format: "png", width: 32, height: 32, channels: 3 });
  assert.equal((await sharp(data).raw().toBuffer()).length, 32 * 32 * 3);
  assert.match(finished[0].tokenDigest, /^[0-9a-f]{64}$/);
});

test("the same seed makes the same tokens and the same bytes, another seed others", async () => {
  const first = await makeImages(stack, { seed: 7n });
  const again = await makeImages(stack, { seed: 7n });
  const other = await makeImages(stack, { seed: 8n });
  assert.equal(again.finished[0].tokenDigest, first.finished[0].tokenDigest);
  assert.deepEqual(again.pictures[0].data, first.pictures[0].data);
  assert.notEqual(other.finished[0].tokenDigest, first.finished[0].tokenDigest);
  assert.notDeepEqual(other.pictures[0].data, first.pictures[0].data);
});

test("the images of one request differ, and the first is the one that a request for one gets", async () => {
  const one = await makeImages(stack, { seed: 7n });
  const three = await makeImages(stack, { seed: 7n, imageCount: 3 });
  const digests = three.finished.map(({ tokenDigest }) => tokenDigest);
  assert.equal(new Set(digests).size, 3);
  assert.equal(digests[0], one.finished[0].tokenDigest);
});

test("an image does not depend on what else is asked for meanwhile", async () => {
  const alone = await makeImages(stack, { seed: 7n });
  const together = await Promise.all([7n, 8n, 9n].map((seed) => makeImages(stack, { seed })));
  assert.equal(together[0].finished[0].tokenDigest, alone.finished[0].tokenDigest);
});

test("the fields that the generator refuses are named to the client of the decoder", async () => {
  await assert.rejects(makeImages(stack, { guidanceScale: 0.5, sampling: { topP: 2 } }), (error) => {
    const { kind, violations } = error as { kind: string; violations: readonly { field: string }[] };
    assert.equal(kind, "invalid-request");
    assert.deepEqual(violations.map(({ field }) => field).sort(), ["generation.guidance_scale", "generation.sampling.top_p"]);
    return true;
  });
});
