import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageFormat } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import { IMAGE_CHUNK_BYTES } from "#libs/rpc/limits.js";
import { imageChunks } from "./chunks.js";

const place = { imageIndex: 2, preview: false, rowsDone: 4 };
const kind = { format: ImageFormat.RAW, height: 8, width: 8 };

test("chunks come in order, fit their limit and make the file again", () => {
  for (const size of [1, IMAGE_CHUNK_BYTES - 1, IMAGE_CHUNK_BYTES, IMAGE_CHUNK_BYTES + 1, 3 * IMAGE_CHUNK_BYTES]) {
    const bytes = new Uint8Array(size).map((_, index) => index % 251);
    const chunks = [...imageChunks({ ...kind, bytes }, place)];
    assert.equal(chunks.length, Math.ceil(size / IMAGE_CHUNK_BYTES));
    let end = 0;
    for (const { data, offset, totalBytes, ...rest } of chunks) {
      assert.deepEqual(rest, { ...place, ...kind });
      assert.equal(totalBytes, size);
      assert.equal(offset, end);
      assert.ok(data!.length >= 1 && data!.length <= IMAGE_CHUNK_BYTES);
      end += data!.length;
    }
    assert.deepEqual(Buffer.concat(chunks.map((chunk) => chunk.data!)), Buffer.from(bytes));
  }
});
