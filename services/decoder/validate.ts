import { hasStages, type Bundle } from "#libs/bundle/bundle.js";
import type { ImageSection } from "#libs/bundle/manifest.js";
import { stageTokenCount } from "#libs/bundle/stage-manifest.js";
import { invalidFields, invariant, unsupported, type FieldViolation } from "#libs/errors/errors.js";
import {
  ImageFormat, type DecodeRequest, type Encoding, type GenerateImageRequest, type ImageContent,
} from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Generation, Started } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { anotherBundle } from "#libs/rpc/model-info.js";

/** How images are encoded, defaults filled in. */
export interface ValidEncoding {
  readonly format: Exclude<ImageFormat, ImageFormat.UNSPECIFIED>;
  /** 1 .. 100; without meaning for the lossless formats. */
  readonly quality: number;
  readonly includePrompt: boolean;
}

/** A `GenerateImageRequest` that keeps its rules; what `generation` says beyond its image count the generator judges. */
export interface ValidGenerateImageRequest {
  readonly generation: Generation;
  readonly imageCount: number;
  readonly encoding: ValidEncoding;
  /** 0 sends no previews. */
  readonly previewIntervalRows: number;
  readonly includeTokens: boolean;
}

/** A `DecodeRequest` that keeps its rules. */
export interface ValidDecodeRequest {
  /** The tokens of each image, raster order, complete. */
  readonly images: readonly (readonly number[])[];
  readonly encoding: ValidEncoding;
}

const DEFAULT_QUALITY = 90;
const FORMATS: readonly ImageFormat[] = [ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.JPEG, ImageFormat.RAW];
const LOSSY: readonly ImageFormat[] = [ImageFormat.WEBP, ImageFormat.JPEG];

/** Gathers violations, so that a caller learns of all of them at once. */
export class Violations {
  readonly #found: FieldViolation[] = [];

  check(field: string, fits: boolean, rule: string, value?: unknown): void {
    const got = value === undefined ? "" : `, got ${value}`;
    if (!fits) this.#found.push({ field, description: `must be ${rule}${got}` });
  }

  throwIfAny(): void {
    if (this.#found.length > 0) throw invalidFields(this.#found);
  }
}

/** @throws AppError "invalid-request" that names every field out of range. */
export function validGenerateImageRequest(
  request: GenerateImageRequest, { gridHeight }: Pick<ImageSection, "gridHeight">,
): ValidGenerateImageRequest {
  const { generation, previewIntervalRows, includeTokens } = request;
  const violations = new Violations();
  const imageCount = generation?.imageCount ?? 0;
  violations.check("generation", generation !== undefined, "set");
  violations.check("generation.image_count", imageCount <= MAX_IMAGE_COUNT, `0 .. ${MAX_IMAGE_COUNT}`, imageCount);
  violations.check("preview_interval_rows", previewIntervalRows <= gridHeight, `0 .. ${gridHeight}`, previewIntervalRows);
  const encoding = validEncoding(request.encoding, violations);
  violations.check(
    "encoding.include_prompt", !encoding.includePrompt || encoding.format === ImageFormat.PNG, "false unless the format is PNG");
  violations.throwIfAny();
  return {
    generation: generation as Generation, imageCount: imageCount || 1, encoding, previewIntervalRows, includeTokens,
  };
}

/**
 * @throws AppError "invalid-request" that names every field out of range; "unsupported" for latents.
 */
export function validDecodeRequest(request: DecodeRequest, image: ImageSection): ValidDecodeRequest {
  const violations = new Violations();
  const { length } = request.images;
  violations.check("images", length >= 1 && length <= MAX_IMAGE_COUNT, `1 .. ${MAX_IMAGE_COUNT} entries`, length);
  const encoding = validEncoding(request.encoding, violations);
  violations.check("encoding.include_prompt", !encoding.includePrompt, "false: there is no prompt");
  violations.throwIfAny();
  const images = request.images.map((content, index) => validTokens(content, `images[${index}]`, image, violations));
  violations.throwIfAny();
  return { images, encoding };
}

/**
 * Hold what a generator says at its start against our own bundle.
 * @throws AppError "mismatch" if it has loaded another bundle, "internal" if it makes images of another size.
 */
export function checkStarted(started: Started, bundle: Bundle): void {
  const digest = started.model?.digest;
  if (digest !== bundle.digest) throw anotherBundle("generator", digest, bundle);
  const count = imageTokenCount(bundle);
  if (started.imageTokenCount !== count) {
    throw invariant(`the generator must make ${count} image tokens, got ${started.imageTokenCount}`);
  }
}

function imageTokenCount(bundle: Bundle): number {
  if (hasStages(bundle)) return stageTokenCount(bundle.manifest.stages);
  const { gridHeight, gridWidth } = bundle.manifest.image;
  return gridHeight * gridWidth;
}

/** @param violations hears of every field out of range. */
export function validEncoding(encoding: Encoding | undefined, violations: Violations): ValidEncoding {
  const { format = 0, quality = 0, includePrompt = false } = encoding ?? {};
  const named = format === ImageFormat.UNSPECIFIED ? ImageFormat.PNG : format;
  violations.check("encoding.format", FORMATS.includes(named), "a known image format", format);
  violations.check("encoding.quality", quality <= 100, "0 .. 100", quality);
  violations.check("encoding.quality", quality === 0 || LOSSY.includes(named), "0 unless the format is WebP or JPEG", quality);
  return { format: named, quality: quality || DEFAULT_QUALITY, includePrompt };
}

function validTokens(
  { content }: ImageContent, field: string, { gridHeight, gridWidth, codebookSize }: ImageSection, violations: Violations,
): readonly number[] {
  if (content.case === "latent") throw unsupported(`\`${field}.latent\` is not supported: the loaded model has discrete tokens`);
  violations.check(field, content.case === "tokens", "tokens");
  if (content.case !== "tokens") return [];
  const { tokens } = content.value;
  const count = gridHeight * gridWidth;
  violations.check(`${field}.tokens`, tokens.length === count, `${count} image tokens`, tokens.length);
  const index = tokens.findIndex((token) => token >= codebookSize);
  violations.check(`${field}.tokens[${index}]`, index < 0, `0 .. ${codebookSize - 1}`, tokens[index]);
  return tokens;
}
