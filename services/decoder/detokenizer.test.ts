import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { ImageSection } from "#libs/bundle/manifest.js";
import { Graph } from "#libs/onnx/graph.js";
import { Detokenizer, toBytes } from "./detokenizer.js";

const folder = mkdtempSync(join(tmpdir(), "tessera-detokenizer-"));
after(() => rmSync(folder, { recursive: true }));
const image: ImageSection = { height: 1, width: 2, gridHeight: 1, gridWidth: 2, levels: [2], codebookSize: 2, tokenOffset: 0 };

/** Red is the token itself, green half of it, blue none of it. */
function graphFile(name: string, { input = "tokens", output = "pixels" } = {}): string {
  const graph = new Graph(name);
  const tokens = graph.input(input, "int64", ["b", "h", "w"]);
  const plane = graph.op("Unsqueeze", [graph.op("Cast", [tokens], { to: 1 }), graph.ints(1)]);
  const planes = [1, 0.5, 0].map((factor) => graph.op("Mul", [plane, graph.float(factor)]));
  graph.output(output, graph.op("Concat", planes, { axis: 1 }), "float32", ["b", 3, "h", "w"]);
  const path = join(folder, `${name}.onnx`);
  writeFileSync(path, graph.toBytes());
  return path;
}

test("colours are clamped and rounded half up", () => {
  const red = [-1, 1, 0, -2, 7, -1 + 1.02 / 255, -1 + 0.98 / 255];
  const planes = Float32Array.from([...red, ...red.map(() => 1), ...red.map(() => -1)]);
  assert.deepEqual([...toBytes(planes)].filter((_, index) => index % 3 === 0), [0, 255, 128, 0, 255, 1, 0]);
  assert.deepEqual([...toBytes(planes)].slice(0, 3), [0, 255, 0]);
});

test("tokens become the graph's pixels, red first, and stay the caller's", async () => {
  const detokenizer = await Detokenizer.open({ graphFile: graphFile("good"), image });
  try {
    const tokens = Uint32Array.of(0, 1);
    assert.deepEqual(await detokenizer.detokenize(tokens), {
      height: 1, width: 2, data: Uint8Array.of(128, 128, 128, 255, 191, 128),
    });
    assert.deepEqual(tokens, Uint32Array.of(0, 1));
    await assert.rejects(detokenizer.detokenize([1]), { kind: "internal", message: /2 tokens, got 1/ });
    await assert.rejects(detokenizer.detokenize([0, 1], { signal: AbortSignal.abort() }), { name: "AbortError" });
  } finally {
    await detokenizer.close();
  }
  assert.equal(await detokenizer.ended, undefined);
});

test("a graph that is not the bundle's is refused before it serves", async () => {
  const wrong: readonly [() => Promise<Detokenizer>, RegExp][] = [
    [() => Detokenizer.open({ graphFile: graphFile("ids", { input: "ids" }), image }), /ids\.onnx must take `tokens`/],
    [() => Detokenizer.open({ graphFile: graphFile("out", { output: "rgb" }), image }), /out\.onnx must take `tokens`/],
    [() => Detokenizer.open({ graphFile: graphFile("size"), image: { ...image, height: 16 } }), /gives pixels \[1, 3, 1, 2\], model\.json says \[1, 3, 16, 2\]/],
  ];
  for (const [open, message] of wrong) await assert.rejects(open, { kind: "mismatch", message });
});
