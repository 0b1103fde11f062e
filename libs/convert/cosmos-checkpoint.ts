import { mismatch } from "#libs/errors/errors.js";
import { lastFrameOutputs, plusInput, plusMean, stillInputs } from "./cosmos-collapse.js";
import { changed, CosmosLayers, fused, type Block, type Middle, type NormWeights, type StoredConv } from "./cosmos-layers.js";
import { checkPatcher, readLevels } from "./cosmos-quantizer.js";
import { checkCompression, checkDecoderWidths, checkEncoderWidths, COLOURS, haarLevelsOf } from "./cosmos-structure.js";
import type { TensorSource } from "./tensor-source.js";
import { readTorchArchive } from "./torch-archive.js";

/** Doubling of a plane: `mix`, nearest neighbours, `conv`. */
export interface Upsample {
  readonly mix: StoredConv | undefined;
  readonly conv: StoredConv;
}

/** The decoder of a Cosmos tokenizer as a plane network: of images, or of video for single images. */
export interface CosmosDecoder {
  /** FSQ levels, channel 0 first; empty for continuous latents. */
  readonly levels: readonly number[];
  readonly latentChannels: number;
  readonly postQuantConv: StoredConv;
  readonly convIn: StoredConv;
  readonly middle: Middle;
  /** Coarsest first. */
  readonly up: readonly { readonly blocks: readonly Block[]; readonly upsample: Upsample | undefined }[];
  readonly normOut: NormWeights;
  readonly convOut: StoredConv;
  /** How often the inverse Haar transform doubles the result of `convOut`. */
  readonly haarLevels: number;
}

/** The encoder of a Cosmos tokenizer as a plane network: of images, or of video for single images. */
export interface CosmosEncoder {
  /** FSQ levels, channel 0 first; empty for continuous latents. */
  readonly levels: readonly number[];
  readonly latentChannels: number;
  /** How often the Haar transform halves the image before `convIn`. */
  readonly haarLevels: number;
  readonly convIn: StoredConv;
  /** Finest first. */
  readonly down: readonly { readonly blocks: readonly Block[]; readonly downsample: StoredConv | undefined }[];
  readonly middle: Middle;
  readonly normOut: NormWeights;
  readonly convOut: StoredConv;
  readonly quantConv: StoredConv;
}

/** What one token of a video tokenizer stands for, as in the name of DV8x16x16: frames, and pixels along each side. */
export interface Compression {
  readonly time: number;
  readonly space: number;
}

/** Which directions a level of a video network doubles or halves. */
interface Resampling {
  readonly time: boolean;
  readonly space: boolean;
}

/** No published tokenizer makes one token of more frames. */
const MAX_FRAMES_PER_TOKEN = 8;

/** Read a `decoder.jit`; see `collectCosmosDecoder`. @throws also mismatch if the file cannot be read. */
export async function readCosmosDecoder(path: string): Promise<CosmosDecoder> {
  return collectCosmosDecoder(await readTorchArchive(path));
}

/** Read an `encoder.jit`; see `collectCosmosEncoder`. @throws also mismatch if the file cannot be read. */
export async function readCosmosEncoder(path: string): Promise<CosmosEncoder> {
  return collectCosmosEncoder(await readTorchArchive(path));
}

/**
 * Sort the arrays of a decoder. Kind, widths, blocks, levels, attention and patch size follow from which arrays there are
 * and from their shapes. Convolutions are read when they are loaded.
 * @param compression of a video tokenizer whose file keeps convolutions that it never uses: they hide which ones it does.
 * @throws mismatch naming any array that is missing, misshapen or unknown, or if the compression is needed or another;
 *   unsupported if it is no Haar network.
 * @see NVIDIA Cosmos-Tokenizer, modules/layers2d.py and layers3d.py
 */
export async function collectCosmosDecoder(tensors: TensorSource, compression?: Compression): Promise<CosmosDecoder> {
  const isVideo = tensors.has("post_quant_conv.conv3d.weight");
  const layers = new CosmosLayers(tensors, isVideo);
  const levels = await readLevels(tensors, "inv_quant.quantizer");
  const postQuantConv = layers.conv("post_quant_conv");
  const bands = layers.planeConv("decoder.conv_out");
  const haarLevels = haarLevelsOf("decoder.conv_out", bands.outputs, isVideo);
  const kept = COLOURS * 4 ** haarLevels;
  const decoder: CosmosDecoder = {
    levels, latentChannels: levels.length === 0 ? postQuantConv.inputs : levels.length, postQuantConv, haarLevels,
    convIn: layers.planeConv("decoder.conv_in"),
    middle: await layers.middle("decoder.mid"),
    up: await readUp(layers, haarLevels, compression),
    normOut: await layers.norm("decoder.norm_out"),
    convOut: isVideo ? changed(bands, (weights) => lastFrameOutputs(weights, haarLevels, COLOURS), { outputs: kept }) : bands,
  };
  await checkPatcher(tensors, isVideo ? "decoder.unpatcher3d" : "decoder.unpatcher", 2 ** haarLevels);
  tensors.finish();
  checkDecoderWidths(decoder);
  checkCompression(decoder, compression);
  return decoder;
}

/** Sort the arrays of an encoder, as `collectCosmosDecoder` does those of a decoder. */
export async function collectCosmosEncoder(tensors: TensorSource, compression?: Compression): Promise<CosmosEncoder> {
  const isVideo = tensors.has("quant_conv.conv3d.weight");
  const layers = new CosmosLayers(tensors, isVideo);
  const levels = await readLevels(tensors, "quantizer");
  const quantConv = layers.conv("quant_conv");
  const bands = layers.planeConv("encoder.conv_in");
  const haarLevels = haarLevelsOf("encoder.conv_in", bands.inputs, isVideo);
  const kept = COLOURS * 4 ** haarLevels;
  const encoder: CosmosEncoder = {
    levels, latentChannels: levels.length === 0 ? quantConv.outputs : levels.length, quantConv, haarLevels,
    convIn: isVideo ? changed(bands, (weights) => stillInputs(weights, haarLevels, COLOURS), { inputs: kept }) : bands,
    down: await readDown(layers, haarLevels, compression),
    middle: await layers.middle("encoder.mid"),
    normOut: await layers.norm("encoder.norm_out"),
    convOut: layers.planeConv("encoder.conv_out"),
  };
  await checkPatcher(tensors, isVideo ? "encoder.patcher3d" : "encoder.patcher", 2 ** haarLevels);
  tensors.finish();
  checkEncoderWidths(encoder);
  checkCompression(encoder, compression);
  return encoder;
}

async function readUp(layers: CosmosLayers, haarLevels: number, compression: Compression | undefined): Promise<CosmosDecoder["up"]> {
  const levels = await readBlocks(layers, "decoder.up");
  const nameOf = (index: number): string => `decoder.up.${index}.upsample`;
  // Images double at every level from some on; none is finer than level 0.
  const finest = levels.findIndex((_, index) => index > 0 && layers.has(`${nameOf(index)}.conv`));
  const upsampleOf = (index: number): Upsample | undefined => {
    if (index === 0) return undefined;
    if (layers.isVideo) {
      const done = levels.length - 1 - index;
      // The coarsest level never doubles time.
      const doubles = compression === undefined
        ? presentResampling(layers, nameOf(index), { time: "conv1", space: "conv2" }, done > 0)
        : decoderResampling(compression, haarLevels, done);
      return readVideoUpsample(layers, nameOf(index), doubles);
    }
    return finest > 0 && index >= finest ? { mix: undefined, conv: layers.conv(`${nameOf(index)}.conv`) } : undefined;
  };
  return levels.map((blocks, index) => ({ blocks, upsample: upsampleOf(index) })).reverse();
}

async function readDown(
  layers: CosmosLayers, haarLevels: number, compression: Compression | undefined,
): Promise<CosmosEncoder["down"]> {
  const levels = await readBlocks(layers, "encoder.down");
  const nameOf = (index: number): string => `encoder.down.${index}.downsample`;
  const coarsest = levels.reduce((last, _, index) => (layers.has(`${nameOf(index)}.conv`) ? index : last), -1);
  const downsampleOf = (index: number): StoredConv | undefined => {
    if (!layers.isVideo) return index > coarsest ? undefined : layers.conv(`${nameOf(index)}.conv`);
    if (index === levels.length - 1) return undefined;
    const halves = compression === undefined
      ? presentResampling(layers, nameOf(index), { time: "conv2", space: "conv1" }, 2 ** (haarLevels + index + 1) <= MAX_FRAMES_PER_TOKEN)
      : encoderResampling(compression, haarLevels, index);
    return readVideoDownsample(layers, nameOf(index), halves);
  };
  return levels.map((blocks, index) => ({ blocks, downsample: downsampleOf(index) }));
}

/** What a level does by the convolutions that it has. @throws mismatch if one is there that no tokenizer uses at this level. */
function presentResampling(
  layers: CosmosLayers, name: string, convs: { readonly time: string; readonly space: string }, mayChangeTime: boolean,
): Resampling {
  const time = layers.has(`${name}.${convs.time}`);
  if (time && !mayChangeTime) {
    throw mismatch(`\`${name}.${convs.time}\` is there though nothing uses it, and may not be alone: say which tokenizer this is by its ` +
      "compression, such as 8x16x16 of DV8x16x16");
  }
  return { time, space: time || [convs.space, "conv3"].some((layer) => layers.has(`${name}.${layer}`)) };
}

function decoderResampling({ time, space }: Compression, haarLevels: number, done: number): Resampling {
  const [times, spaces] = [Math.log2(time) - haarLevels, Math.log2(space) - haarLevels];
  const doublesTime = done > 0 && done <= times;
  return { time: doublesTime, space: doublesTime || (spaces > times && done < spaces) };
}

function encoderResampling({ time, space }: Compression, haarLevels: number, index: number): Resampling {
  return { time: index < Math.log2(time) - haarLevels, space: index < Math.log2(space) - haarLevels };
}

/** The blocks of each level, finest first. */
async function readBlocks(layers: CosmosLayers, prefix: string): Promise<readonly (readonly Block[])[]> {
  const levels: (readonly Block[])[] = [];
  for (;;) {
    const blocks = await layers.blocks(`${prefix}.${levels.length}`);
    if (blocks.length === 0) break;
    levels.push(blocks);
  }
  if (levels.length === 0) throw mismatch(`\`${prefix}\` must have blocks, got none`);
  return levels;
}

/** `x + conv1(x)` doubles time, which leaves one frame one; then nearest neighbours, `x + conv2(x)`, `conv3`. */
function readVideoUpsample(layers: CosmosLayers, name: string, doubles: Resampling): Upsample | undefined {
  if (!doubles.space) return layers.leave(["conv1", "conv2", "conv3"].map((layer) => `${name}.${layer}`));
  if (!doubles.time) layers.leave([`${name}.conv1`]);
  const plane = changed(layers.conv(`${name}.conv2`), plusInput);
  return {
    mix: doubles.time ? changed(layers.conv(`${name}.conv1`), plusInput) : undefined,
    conv: fused(plane, layers.conv(`${name}.conv3`), `${name}.conv3`),
  };
}

/** `conv1(x)` beside the mean halves the plane, `x + conv2(x)` halves time, which leaves one frame one; then `conv3`. */
function readVideoDownsample(layers: CosmosLayers, name: string, halves: Resampling): StoredConv | undefined {
  if (!halves.space) return layers.leave(["conv1", "conv2", "conv3"].map((layer) => `${name}.${layer}`));
  if (!halves.time) layers.leave([`${name}.conv2`]);
  const plane = changed(layers.conv(`${name}.conv1`), plusMean);
  const both = halves.time ? fused(plane, changed(layers.conv(`${name}.conv2`), plusInput), `${name}.conv2`) : plane;
  return fused(both, layers.conv(`${name}.conv3`), `${name}.conv3`);
}
