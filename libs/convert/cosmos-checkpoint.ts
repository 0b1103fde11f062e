import { mismatch, unsupported } from "#libs/errors/errors.js";
import { codeBasis, codeTable } from "#libs/fsq/fsq.js";
import type { ConvWeights } from "#libs/onnx/conv2d.js";
import { checkWidths, haarLevelsOf } from "./cosmos-structure.js";
import type { TensorSource } from "./tensor-source.js";
import { readTorchArchive } from "./torch-archive.js";

/** The weights of a group norm, `[channels]` each. */
export interface NormWeights {
  readonly weight: Float32Array;
  readonly bias: Float32Array;
}

/** A residual block; the shortcut is there where the width changes. */
export interface ResidualBlock {
  readonly norm1: NormWeights;
  readonly conv1: ConvWeights;
  readonly norm2: NormWeights;
  readonly conv2: ConvWeights;
  readonly shortcut: ConvWeights | undefined;
}

/** Attention over all pixels. */
export interface AttentionBlock {
  readonly norm: NormWeights;
  readonly query: ConvWeights;
  readonly key: ConvWeights;
  readonly value: ConvWeights;
  readonly output: ConvWeights;
}

/** A residual block and what may follow it. */
export interface UpBlock {
  readonly residual: ResidualBlock;
  readonly attention: AttentionBlock | undefined;
}

/** One resolution; all but the finest end by doubling it. */
export interface UpLevel {
  readonly blocks: readonly UpBlock[];
  readonly upsample: ConvWeights | undefined;
}

/** The 2-D decoder of a discrete Cosmos tokenizer. */
export interface CosmosDecoder {
  /** FSQ levels, channel 0 first. */
  readonly levels: readonly number[];
  readonly postQuantConv: ConvWeights;
  readonly convIn: ConvWeights;
  readonly middle: readonly [ResidualBlock, AttentionBlock | undefined, ResidualBlock];
  /** Coarsest first. */
  readonly up: readonly UpLevel[];
  readonly normOut: NormWeights;
  readonly convOut: ConvWeights;
  /** How often the inverse Haar transform doubles the result of `convOut`. */
  readonly haarLevels: number;
}

/** Read a `decoder.jit`; see `collectCosmosDecoder`. @throws also mismatch if the file cannot be read. */
export async function readCosmosDecoder(path: string): Promise<CosmosDecoder> {
  return collectCosmosDecoder(await readTorchArchive(path));
}

/**
 * Sort the arrays of a decoder. Widths, blocks, levels, attention and patch size follow from their names and shapes.
 * @throws unsupported for video and continuous decoders; mismatch naming any array that is missing, misshapen or unknown.
 * @see NVIDIA Cosmos-Tokenizer, modules/layers2d.py
 */
export async function collectCosmosDecoder(tensors: TensorSource): Promise<CosmosDecoder> {
  if (tensors.has("post_quant_conv.conv3d.weight")) {
    throw unsupported("the decoder is one for video, this build reads those for images");
  }
  if (!tensors.has("inv_quant.quantizer._levels")) {
    throw unsupported("the decoder has no inv_quant.quantizer, this build reads those of discrete tokens");
  }
  const levels = await readLevels(tensors);
  const convOut = await readConv(tensors, "decoder.conv_out");
  const decoder: CosmosDecoder = {
    levels,
    postQuantConv: await readConv(tensors, "post_quant_conv"),
    convIn: await readConv(tensors, "decoder.conv_in"),
    middle: [
      await readResidual(tensors, "decoder.mid.block_1"),
      await readAttention(tensors, "decoder.mid.attn_1"),
      await readResidual(tensors, "decoder.mid.block_2"),
    ],
    up: await readUpLevels(tensors),
    normOut: await readNorm(tensors, "decoder.norm_out"),
    convOut,
    haarLevels: haarLevelsOf(convOut.outputs),
  };
  await checkWavelets(tensors);
  tensors.finish();
  checkWidths(decoder);
  return decoder;
}

/** The quantizer's own tables must agree with the levels. */
async function readLevels(tensors: TensorSource): Promise<readonly number[]> {
  const prefix = "inv_quant.quantizer";
  const channels = tensors.shape(`${prefix}._levels`).slice(0, 1);
  const levels = await tensors.integers(`${prefix}._levels`, channels);
  if (levels.length === 0 || levels.some((level) => level < 2)) {
    throw mismatch(`decoder: \`${prefix}._levels\` must be whole numbers >= 2, got [${levels.join(", ")}]`);
  }
  const basis = await tensors.integers(`${prefix}._basis`, channels);
  const expected = codeBasis(levels);
  if (basis.some((step, channel) => step !== expected[channel])) {
    throw mismatch(`decoder: \`${prefix}._basis\` must be [${expected.join(", ")}], got [${basis.join(", ")}]`);
  }
  const table = codeTable(levels);
  const stored = await tensors.floats(`${prefix}.implicit_codebook`, [table.length / levels.length, levels.length]);
  // The table may be rounded to bfloat16; codes lie at least 0.01 apart for up to 200 levels.
  const differs = table.findIndex((code, index) => !(Math.abs(code - stored[index]) < 0.005));
  if (differs >= 0) throw mismatch(`decoder: \`${prefix}.implicit_codebook\` differs from the codes of its levels at ${differs}`);
  return levels;
}

/** A trace keeps the filters that the patches were cut with: `[0.7071, 0.7071]` is Haar, the plain one is `[1, 1]`. */
async function checkWavelets(tensors: TensorSource): Promise<void> {
  const prefix = "decoder.unpatcher";
  if (!tensors.has(`${prefix}.wavelets`)) return;
  const wavelets = await tensors.floats(`${prefix}.wavelets`, [2]);
  if (wavelets.some((value) => Math.abs(value - Math.SQRT1_2) > 0.005)) {
    throw unsupported(`the decoder's patches are not cut by Haar wavelets, its filter is [${[...wavelets].join(", ")}]`);
  }
  if (tensors.has(`${prefix}._arange`)) await tensors.integers(`${prefix}._arange`, [2]);
}

async function readUpLevels(tensors: TensorSource): Promise<readonly UpLevel[]> {
  const levels: UpLevel[] = [];
  for (let index = 0; tensors.has(`decoder.up.${index}.block.0.conv1.weight`); index++) {
    const prefix = `decoder.up.${index}`;
    const blocks: UpBlock[] = [];
    while (tensors.has(`${prefix}.block.${blocks.length}.conv1.weight`)) {
      const number = blocks.length;
      blocks.push({
        residual: await readResidual(tensors, `${prefix}.block.${number}`),
        attention: await readAttention(tensors, `${prefix}.attn.${number}`),
      });
    }
    // Levels are numbered from the finest, which has nothing finer to double to.
    const upsample = index === 0 ? undefined : await readConv(tensors, `${prefix}.upsample.conv`);
    levels.unshift({ blocks, upsample });
  }
  if (levels.length === 0) throw mismatch("decoder: array `decoder.up.0.block.0.conv1.weight` is missing");
  return levels;
}

async function readResidual(tensors: TensorSource, prefix: string): Promise<ResidualBlock> {
  return {
    norm1: await readNorm(tensors, `${prefix}.norm1`),
    conv1: await readConv(tensors, `${prefix}.conv1`),
    norm2: await readNorm(tensors, `${prefix}.norm2`),
    conv2: await readConv(tensors, `${prefix}.conv2`),
    shortcut: await readOptionalConv(tensors, `${prefix}.nin_shortcut`),
  };
}

async function readAttention(tensors: TensorSource, prefix: string): Promise<AttentionBlock | undefined> {
  if (!tensors.has(`${prefix}.q.weight`)) return undefined;
  return {
    norm: await readNorm(tensors, `${prefix}.norm`),
    query: await readConv(tensors, `${prefix}.q`),
    key: await readConv(tensors, `${prefix}.k`),
    value: await readConv(tensors, `${prefix}.v`),
    output: await readConv(tensors, `${prefix}.proj_out`),
  };
}

async function readNorm(tensors: TensorSource, prefix: string): Promise<NormWeights> {
  const shape = [tensors.shape(`${prefix}.weight`)[0]];
  return { weight: await tensors.floats(`${prefix}.weight`, shape), bias: await tensors.floats(`${prefix}.bias`, shape) };
}

async function readConv(tensors: TensorSource, prefix: string): Promise<ConvWeights> {
  const shape = tensors.shape(`${prefix}.weight`);
  const [outputs, inputs, size] = shape;
  if (shape.length !== 4 || shape[3] !== size || size % 2 === 0) {
    throw mismatch(`decoder: \`${prefix}.weight\` must have shape [outputs, inputs, n, n] with n odd, got [${shape.join(", ")}]`);
  }
  const weight = await tensors.floats(`${prefix}.weight`, shape);
  return { weight, bias: await tensors.floats(`${prefix}.bias`, [outputs]), outputs, inputs, size };
}

async function readOptionalConv(tensors: TensorSource, prefix: string): Promise<ConvWeights | undefined> {
  return tensors.has(`${prefix}.weight`) ? readConv(tensors, prefix) : undefined;
}
