import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { invariant, unsupported } from "#libs/errors/errors.js";
import { latentSize, type Latent, type LatentShape } from "#libs/flow/latent.js";
import type { DecodeRequest, GenerateImageRequest, ImageContent } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { TokenMap } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { floatsOfBytes } from "#libs/tensor/float-bytes.js";
import type { TokenMaps } from "./stage-sampler.js";
import { validEncoding, validGenerateImageRequest, Violations, type ValidEncoding, type ValidGenerateImageRequest } from "./validate.js";

/** A `DecodeRequest` of latents that keeps its rules. */
export interface ValidLatentRequest {
  readonly images: readonly Latent[];
  readonly encoding: ValidEncoding;
}

/** @throws AppError "invalid-request" that names every field out of range; "unsupported" for tokens to be sent along. */
export function validStageImageRequest(request: GenerateImageRequest, { image }: StageManifest): ValidGenerateImageRequest {
  if (request.includeTokens) throw unsupported("`include_tokens` is not supported: the loaded model has continuous tokens");
  return validGenerateImageRequest(request, image);
}

/** @throws AppError "invalid-request" that names every field out of range; "unsupported" for discrete tokens. */
export function validLatentRequest(request: DecodeRequest, { image, latent }: StageManifest): ValidLatentRequest {
  const violations = new Violations();
  const { length } = request.images;
  violations.check("images", length >= 1 && length <= MAX_IMAGE_COUNT, `1 .. ${MAX_IMAGE_COUNT} entries`, length);
  const encoding = validEncoding(request.encoding, violations);
  violations.check("encoding.include_prompt", !encoding.includePrompt, "false: there is no prompt");
  violations.throwIfAny();
  const shape = { channels: latent.channels, height: image.gridHeight, width: image.gridWidth };
  const images = request.images.map((content, index) => validLatent(content, `images[${index}]`, shape, violations));
  violations.throwIfAny();
  return { images, encoding };
}

function validLatent({ content }: ImageContent, field: string, shape: LatentShape, violations: Violations): Latent {
  if (content.case === "tokens") throw unsupported(`\`${field}.tokens\` is not supported: the loaded model has continuous tokens`);
  const empty = { ...shape, values: new Float32Array() };
  violations.check(field, content.case === "latent", "a latent");
  if (content.case !== "latent") return empty;
  const { height, width, channels, values } = content.value;
  violations.check(`${field}.latent.height`, height === shape.height, `${shape.height}`, height);
  violations.check(`${field}.latent.width`, width === shape.width, `${shape.width}`, width);
  violations.check(`${field}.latent.channels`, channels === shape.channels, `${shape.channels}`, channels);
  const bytes = 4 * latentSize(shape);
  violations.check(`${field}.latent.values`, values.length === bytes, `${bytes} bytes, one float32 a number`, `${values.length} bytes`);
  if (values.length !== bytes) return empty;
  const numbers = floatsOfBytes(values);
  const wrong = numbers.findIndex((value) => !Number.isFinite(value));
  violations.check(`${field}.latent.values[${wrong}]`, wrong < 0, "a finite number", numbers[wrong]);
  return { ...shape, values: numbers };
}

/**
 * The token maps that a generator sends.
 * @param stage the one that comes next. @param isGuided whether the unconditional branch must be there.
 * @throws AppError "internal" if they are not as the bundle says: the generator broke its promise.
 */
export function tokenMapsOf(map: TokenMap, stage: number, isGuided: boolean, { stages, transformer }: StageManifest): TokenMaps {
  const section = stages[stage];
  if (map.stage !== stage || section === undefined) throw invariant(`the generator sent stage ${map.stage}, stage ${stage} was next`);
  const { height, width } = section;
  const { tokenMapChannels: channels } = transformer;
  if (map.height !== height || map.width !== width || map.channels !== channels) {
    throw invariant(`a map of stage ${stage} must be [${height}, ${width}, ${channels}], got [${map.height}, ${map.width}, ${map.channels}]`);
  }
  const [conditional, unconditional] = [map.values, map.unconditionalValues].map((bytes) => floatsOfBytes(bytes));
  const wanted = height * width * channels;
  if (conditional.length !== wanted || unconditional.length !== (isGuided ? wanted : 0)) {
    throw invariant(`a map of stage ${stage} must have ${wanted} numbers, got ${conditional.length} and ${unconditional.length}`);
  }
  return { conditional, unconditional: isGuided ? unconditional : undefined };
}
