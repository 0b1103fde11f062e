import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { GenerateImageResponseSchema, type GenerateImageResponse } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { imageEvents, type ImageEvent } from "./image-stream.js";

type Event = NonNullable<MessageInitShape<typeof GenerateImageResponseSchema>["event"]>;

async function* responses(events: readonly Event[]): AsyncGenerator<GenerateImageResponse> {
  for (const event of events) yield create(GenerateImageResponseSchema, { event });
}

async function eventsOf(events: readonly Event[]): Promise<readonly ImageEvent[]> {
  const all: ImageEvent[] = [];
  for await (const event of imageEvents(responses(events))) all.push(event);
  return all;
}

function chunk(offset: number, bytes: readonly number[], totalBytes = 5): Event {
  return { case: "imageChunk", value: { imageIndex: 1, rowsDone: 4, height: 2, width: 3, totalBytes, offset, data: new Uint8Array(bytes) } };
}

test("the parts of a picture become the picture", async () => {
  const events = await eventsOf([chunk(0, [1, 2]), chunk(2, [3, 4]), chunk(4, [5])]);
  assert.deepEqual(events, [{
    type: "picture",
    picture: { imageIndex: 1, isPreview: false, rowsDone: 4, height: 2, width: 3, data: new Uint8Array([1, 2, 3, 4, 5]) },
  }]);
});

test("pictures of different sizes do not share bytes", async () => {
  const [first, second] = await eventsOf([chunk(0, [1, 2, 3, 4, 5]), chunk(0, [9], 1)]);
  assert.ok(first.type === "picture" && second.type === "picture");
  assert.deepEqual([...first.picture.data], [1, 2, 3, 4, 5]);
  assert.deepEqual([...second.picture.data], [9]);
});

test("other events pass in order", async () => {
  const events = await eventsOf([
    { case: "queued", value: { position: 2, estimatedStartMs: 1500 } },
    { case: "progress", value: { imageIndex: 0, tokensDone: 7, tokensTotal: 16, tokens: [3, 1] } },
  ]);
  assert.deepEqual(events, [
    { type: "queued", position: 2, estimatedStartMs: 1500 }, { type: "progress", imageIndex: 0, tokensDone: 7, tokens: [3, 1] },
  ]);
});

test("parts that do not fit together are refused", async () => {
  await assert.rejects(eventsOf([chunk(0, [1, 2]), chunk(4, [5, 6])]), /no part of a picture of 5 bytes/);
  await assert.rejects(eventsOf([chunk(2, [1])]), /no part of a picture of 0 bytes/);
});
