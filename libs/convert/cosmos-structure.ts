import { mismatch, unsupported } from "#libs/errors/errors.js";
import type { Compression, CosmosDecoder, CosmosEncoder } from "./cosmos-checkpoint.js";
import {
  checkConv, type AttentionBlock, type Block, type Middle, type NormWeights, type ResidualBlock, type StoredConv,
} from "./cosmos-layers.js";

/** Colours of a pixel. */
export const COLOURS = 3;

/**
 * How often the Haar transform halves the image, from the channels of its bands: 3 colours by 4 or, on video, 8 bands a level.
 * @throws mismatch if they are no such number.
 */
export function haarLevelsOf(name: string, channels: number, isVideo: boolean): number {
  const bands = isVideo ? 8 : 4;
  const levels = Math.round(Math.log2(channels / COLOURS) / Math.log2(bands));
  if (levels < 0 || COLOURS * bands ** levels !== channels) {
    throw mismatch(`\`${name}\` must have 3 * ${bands}^n channels of patches, got ${channels}`);
  }
  return levels;
}

/** How many pixels one image token, or one position of the latent, is high and wide. */
export function pixelsPerToken(network: CosmosDecoder | CosmosEncoder): number {
  const resampled = "up" in network
    ? network.up.filter(({ upsample }) => upsample !== undefined)
    : network.down.filter(({ downsample }) => downsample !== undefined);
  return 2 ** (network.haarLevels + resampled.length);
}

/** @throws mismatch if a network that was read as one of `compression` is of another. */
export function checkCompression(network: CosmosDecoder | CosmosEncoder, compression: Compression | undefined): void {
  const pixels = pixelsPerToken(network);
  if (compression === undefined || compression.space === pixels) return;
  throw mismatch(`the compression must be one of ${pixels} x ${pixels} pixels, got ${compression.space} x ${compression.space}`);
}

/**
 * Whether a model can predict what the decoder takes, and the encoder gives the same.
 * @throws unsupported for continuous latents; mismatch if the encoder is another tokenizer's.
 */
export function checkTokenizer(decoder: CosmosDecoder, encoder: CosmosEncoder | undefined): void {
  if (decoder.levels.length === 0) {
    throw unsupported("the decoder takes continuous latents and the transformer predicts image tokens: give a discrete one, DV or DI");
  }
  if (encoder === undefined) return;
  const [wanted, got] = [decoder, encoder].map((network) => `[${network.levels.join(", ")}] and ${pixelsPerToken(network)} pixels`);
  if (got !== wanted) throw mismatch(`the encoder's tokens must have levels and size ${wanted} as the decoder's have, got ${got}`);
}

/** @throws mismatch at the first layer that does not take what the one before it gives. */
export function checkDecoderWidths(decoder: CosmosDecoder): void {
  let width = passConv("post_quant_conv", decoder.postQuantConv, decoder.latentChannels);
  width = passConv("decoder.conv_in", decoder.convIn, width);
  width = passMiddle("decoder.mid", decoder.middle, width);
  decoder.up.forEach(({ blocks, upsample }, index) => {
    const name = `decoder.up.${decoder.up.length - 1 - index}`;
    width = passBlocks(name, blocks, width);
    if (upsample?.mix !== undefined) checkConv(`${name}.upsample.conv1`, upsample.mix, width, width);
    if (upsample !== undefined) checkConv(`${name}.upsample`, upsample.conv, width, width);
  });
  checkNorm("decoder.norm_out", decoder.normOut, width);
  passConv("decoder.conv_out", decoder.convOut, width);
}

/** @throws mismatch at the first layer that does not take what the one before it gives. */
export function checkEncoderWidths(encoder: CosmosEncoder): void {
  let width = encoder.convIn.outputs;
  encoder.down.forEach(({ blocks, downsample }, index) => {
    width = passBlocks(`encoder.down.${index}`, blocks, width);
    if (downsample !== undefined) checkConv(`encoder.down.${index}.downsample`, downsample, width, width);
  });
  width = passMiddle("encoder.mid", encoder.middle, width);
  checkNorm("encoder.norm_out", encoder.normOut, width);
  width = passConv("encoder.conv_out", encoder.convOut, width);
  checkConv("quant_conv", encoder.quantConv, width, encoder.latentChannels);
}

function passConv(name: string, conv: StoredConv, width: number): number {
  checkConv(name, conv, width, conv.outputs);
  return conv.outputs;
}

function passMiddle(name: string, [first, attention, second]: Middle, width: number): number {
  const inner = passResidual(`${name}.block_1`, first, width);
  if (attention !== undefined) checkAttention(`${name}.attn_1`, attention, inner);
  return passResidual(`${name}.block_2`, second, inner);
}

function passBlocks(name: string, blocks: readonly Block[], width: number): number {
  return blocks.reduce((inner, { residual, attention }, number) => {
    const outer = passResidual(`${name}.block.${number}`, residual, inner);
    if (attention !== undefined) checkAttention(`${name}.attn.${number}`, attention, outer);
    return outer;
  }, width);
}

function passResidual(name: string, block: ResidualBlock, width: number): number {
  checkNorm(`${name}.norm1`, block.norm1, width);
  const inner = passConv(`${name}.conv1`, block.conv1, width);
  checkNorm(`${name}.norm2`, block.norm2, inner);
  const outer = passConv(`${name}.conv2`, block.conv2, inner);
  const beside = block.shortcut === undefined ? width : passConv(`${name}.nin_shortcut`, block.shortcut, width);
  if (beside !== outer) throw mismatch(`\`${name}\` must give ${outer} channels on both ways, its shortcut gives ${beside}`);
  return outer;
}

function checkAttention(name: string, block: AttentionBlock, width: number): void {
  checkNorm(`${name}.norm`, block.norm, width);
  const layers = { q: block.query, k: block.key, v: block.value, proj_out: block.output };
  for (const [layer, conv] of Object.entries(layers)) checkConv(`${name}.${layer}`, conv, width, width);
  if (block.time !== undefined) checkNorm(`${name}.1.norm`, block.time.norm, width);
}

function checkNorm(name: string, { weight, groups }: NormWeights, width: number): void {
  if (weight.length !== width) throw mismatch(`\`${name}\` must have ${width} channels, got ${weight.length}`);
  if (width % groups !== 0) throw mismatch(`\`${name}\` must have a multiple of ${groups} channels, got ${width}`);
}
