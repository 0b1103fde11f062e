import { fsqCodes } from "#libs/onnx/fsq-codes.js";
import { Graph, type Value } from "#libs/onnx/graph.js";
import { inverseHaar } from "#libs/onnx/haar.js";
import type { WeightFile } from "#libs/onnx/weight-file.js";
import type { CosmosDecoder } from "./cosmos-checkpoint.js";
import { CosmosGraph } from "./cosmos-graph.js";
import { COLOURS, pixelsPerToken } from "./cosmos-structure.js";

/** How a decoder's convolutions, or an encoder's, may be stored. */
export type DecoderWeightType = "fp32" | "fp16";

/** How a Cosmos graph is built. */
export interface CosmosGraphOptions {
  readonly weights: DecoderWeightType;
  /** Where the constants of a large graph go; stays the caller's. */
  readonly weightFile?: WeightFile;
  readonly signal?: AbortSignal;
}

/**
 * The decoder graph of a bundle, as `DecoderSection` describes it; any h and w. A continuous decoder takes `latent`
 * float32 `[B, channels, h, w]` in place of tokens.
 */
export async function buildDecoder(decoder: CosmosDecoder, options: CosmosGraphOptions): Promise<Uint8Array> {
  const graph = new Graph("decoder", options.weightFile);
  const pixels = await decodeLatent(new CosmosGraph(graph, options), latentInput(graph, decoder), decoder);
  const scale = pixelsPerToken(decoder);
  graph.output("pixels", pixels, "float32", ["B", COLOURS, `${scale} h`, `${scale} w`]);
  return graph.toBytes();
}

function latentInput(graph: Graph, { levels, latentChannels }: CosmosDecoder): Value {
  if (levels.length === 0) return graph.input("latent", "float32", ["B", latentChannels, "h", "w"]);
  const tokens = graph.input("tokens", "int64", ["B", "h", "w"]);
  return graph.scope("codes", () => fsqCodes(graph, tokens, levels));
}

/** Latents, or codes of tokens, `[B, channels, h, w]` to pixels `[B, 3, H, W]`, about -1..1, not clamped. */
export async function decodeLatent(layers: CosmosGraph, latent: Value, decoder: CosmosDecoder): Promise<Value> {
  let x = await layers.conv("post_quant_conv", latent, decoder.postQuantConv);
  x = await layers.middle(await layers.conv("conv_in", x, decoder.convIn), decoder.middle);
  for (const [index, { blocks, upsample }] of decoder.up.entries()) {
    const name = `up.${decoder.up.length - 1 - index}`;
    x = await layers.blocks(name, x, blocks);
    if (upsample !== undefined) x = await layers.upsample(`${name}/upsample`, x, upsample);
  }
  x = await layers.head(x, decoder.normOut, decoder.convOut);
  const { graph } = layers;
  for (let level = 0; level < decoder.haarLevels; level++) x = graph.scope(`haar.${level}`, () => inverseHaar(graph, x));
  return x;
}
