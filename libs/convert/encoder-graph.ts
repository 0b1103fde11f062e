import { fsqTokens } from "#libs/onnx/fsq-codes.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { haar } from "#libs/onnx/haar.js";
import type { CosmosEncoder } from "./cosmos-checkpoint.js";
import { CosmosGraph } from "./cosmos-graph.js";
import { COLOURS } from "./cosmos-structure.js";
import type { CosmosGraphOptions } from "./decoder-graph.js";

/**
 * The encoder graph of a bundle, as `EncoderSection` describes it; any H and W that are multiples of a token's pixels. A
 * continuous encoder gives `latent` float32 `[B, channels, h, w]` in place of tokens.
 */
export async function buildEncoder(encoder: CosmosEncoder, options: CosmosGraphOptions): Promise<Uint8Array> {
  const graph = new Graph("encoder", options.weightFile);
  const pixels = graph.input("pixels", "float32", ["B", COLOURS, "H", "W"]);
  const latent = await encodePixels(new CosmosGraph(graph, options), pixels, encoder);
  if (encoder.levels.length === 0) {
    graph.output("latent", latent, "float32", ["B", encoder.latentChannels, "h", "w"]);
  } else {
    graph.output("tokens", graph.scope("tokens", () => fsqTokens(graph, latent, encoder.levels)), "int64", ["B", "h", "w"]);
  }
  return graph.toBytes();
}

/** Pixels `[B, 3, H, W]` in -1..1 to latents `[B, channels, h, w]`, before any quantizer. */
export async function encodePixels(layers: CosmosGraph, pixels: Value, encoder: CosmosEncoder): Promise<Value> {
  const { graph } = layers;
  let x = pixels;
  for (let level = 0; level < encoder.haarLevels; level++) x = graph.scope(`haar.${level}`, () => haar(graph, x));
  x = await layers.conv("conv_in", x, encoder.convIn);
  for (const [index, { blocks, downsample }] of encoder.down.entries()) {
    x = await layers.blocks(`down.${index}`, x, blocks);
    if (downsample !== undefined) x = await layers.downsample(`down.${index}/downsample`, x, downsample);
  }
  x = await layers.head(await layers.middle(x, encoder.middle), encoder.normOut, encoder.convOut);
  return layers.conv("quant_conv", x, encoder.quantConv);
}
