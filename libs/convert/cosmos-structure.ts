import { mismatch } from "#libs/errors/errors.js";
import type { ConvWeights } from "#libs/onnx/conv2d.js";
import type { AttentionBlock, CosmosDecoder, NormWeights, ResidualBlock } from "./cosmos-checkpoint.js";

/** Groups of every norm in a 2-D decoder. */
export const NORM_GROUPS = 32;

const COLOURS = 3;

/**
 * How often the inverse Haar transform doubles the image, from the channels it starts with: 3 colours by a square patch.
 * @throws mismatch if they are no such number.
 */
export function haarLevelsOf(channels: number): number {
  const levels = Math.log2(channels / COLOURS) / 2;
  if (!Number.isInteger(levels) || levels < 0) {
    throw mismatch(`decoder: \`decoder.conv_out\` must give 3 * 4^n channels, got ${channels}`);
  }
  return levels;
}

/**
 * How many pixels one image token is high and wide.
 */
export function pixelsPerToken({ up, haarLevels }: CosmosDecoder): number {
  return 2 ** (haarLevels + up.filter((level) => level.upsample !== undefined).length);
}

/** @throws mismatch at the first layer that does not take what the one before it gives. */
export function checkWidths(decoder: CosmosDecoder): void {
  let width = passConv("post_quant_conv", decoder.postQuantConv, decoder.levels.length);
  width = passConv("decoder.conv_in", decoder.convIn, width);
  const [first, attention, second] = decoder.middle;
  width = passResidual("decoder.mid.block_1", first, width);
  if (attention !== undefined) width = passAttention("decoder.mid.attn_1", attention, width);
  width = passResidual("decoder.mid.block_2", second, width);
  decoder.up.forEach(({ blocks, upsample }, index) => {
    const prefix = `decoder.up.${decoder.up.length - 1 - index}`;
    blocks.forEach((block, number) => {
      width = passResidual(`${prefix}.block.${number}`, block.residual, width);
      if (block.attention !== undefined) width = passAttention(`${prefix}.attn.${number}`, block.attention, width);
    });
    if (upsample !== undefined) width = passConv(`${prefix}.upsample.conv`, upsample, width);
  });
  checkNorm("decoder.norm_out", decoder.normOut, width);
  passConv("decoder.conv_out", decoder.convOut, width);
}

function passConv(name: string, conv: ConvWeights, width: number): number {
  if (conv.inputs !== width) throw mismatch(`decoder: \`${name}\` must take ${width} channels, got ${conv.inputs}`);
  return conv.outputs;
}

function passResidual(name: string, block: ResidualBlock, width: number): number {
  checkNorm(`${name}.norm1`, block.norm1, width);
  const inner = passConv(`${name}.conv1`, block.conv1, width);
  checkNorm(`${name}.norm2`, block.norm2, inner);
  const outer = passConv(`${name}.conv2`, block.conv2, inner);
  const beside = block.shortcut === undefined ? width : passConv(`${name}.nin_shortcut`, block.shortcut, width);
  if (beside !== outer) throw mismatch(`decoder: \`${name}\` must give ${outer} channels on both ways, its shortcut gives ${beside}`);
  return outer;
}

function passAttention(name: string, block: AttentionBlock, width: number): number {
  checkNorm(`${name}.norm`, block.norm, width);
  const layers = { q: block.query, k: block.key, v: block.value, proj_out: block.output };
  for (const [layer, conv] of Object.entries(layers)) {
    if (passConv(`${name}.${layer}`, conv, width) !== width) {
      throw mismatch(`decoder: \`${name}.${layer}\` must give ${width} channels, got ${conv.outputs}`);
    }
  }
  return width;
}

function checkNorm(name: string, { weight }: NormWeights, width: number): void {
  if (weight.length !== width) throw mismatch(`decoder: \`${name}\` must have ${width} channels, got ${weight.length}`);
  if (width % NORM_GROUPS !== 0) throw mismatch(`decoder: \`${name}\` must have a multiple of ${NORM_GROUPS} channels, got ${width}`);
}
