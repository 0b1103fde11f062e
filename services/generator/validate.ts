import { randomBytes } from "node:crypto";
import type { Manifest } from "#libs/bundle/manifest.js";
import { invalidFields, unsupported, type FieldViolation } from "#libs/errors/errors.js";
import type { Generation } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { Priority } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import type { SamplingSettings } from "./engine/sequence.js";

/** A generation whose every field is in range, with defaults filled in. */
export interface ValidGeneration extends SamplingSettings {
  readonly prompt: string;
  /** Undefined: the bundle's unconditional prompt. */
  readonly negativePrompt: string | undefined;
  readonly guidanceScale: number;
  readonly seed: bigint;
  readonly imageCount: number;
}

/** What later versions will do; refused rather than ignored. */
function refuseUnsupported(generation: Generation): void {
  if (generation.priority !== Priority.UNSPECIFIED && generation.priority !== Priority.NORMAL) {
    throw unsupported("`generation.priority` other than normal is not supported");
  }
  if (generation.prefixes.length > 0) throw unsupported("`generation.prefixes` is not supported");
}

/**
 * Parse what a request asks for. The text itself is the tokenizer's to judge, beyond being there.
 * @throws AppError "invalid-request" that names every field out of range; "unsupported" for what this build cannot do.
 */
export function validateGeneration(generation: Generation | undefined, manifest: Manifest): ValidGeneration {
  if (generation === undefined) throw invalidFields([{ field: "generation", description: "must be set" }]);
  const { defaults, image } = manifest;
  const sampling = generation.sampling;
  const valid: ValidGeneration = {
    prompt: generation.prompt,
    negativePrompt: generation.negativePrompt,
    guidanceScale: generation.guidanceScale ?? defaults.guidanceScale,
    temperature: sampling?.temperature ?? defaults.temperature,
    topK: sampling?.topK ?? defaults.topK,
    topP: sampling?.topP ?? defaults.topP,
    seed: generation.seed ?? randomBytes(8).readBigUInt64LE(),
    imageCount: generation.imageCount || 1,
  };
  const violations: FieldViolation[] = [];
  const check = (field: string, fits: boolean, rule: string, value: unknown) => {
    if (!fits) violations.push({ field: `generation.${field}`, description: `must be ${rule}, got ${value}` });
  };
  const { guidanceScale, temperature, topK, topP, imageCount } = valid;
  if (valid.prompt === "") violations.push({ field: "generation.prompt", description: "must not be empty" });
  check("guidance_scale", guidanceScale >= 1 && guidanceScale <= 100, "1 .. 100", guidanceScale);
  check("sampling.temperature", temperature >= 0 && temperature <= 100, "0 .. 100", temperature);
  check("sampling.top_k", topK <= image.codebookSize, `0 .. ${image.codebookSize}`, topK);
  check("sampling.top_p", topP > 0 && topP <= 1, "> 0 and <= 1", topP);
  check("image_count", imageCount <= MAX_IMAGE_COUNT, `0 .. ${MAX_IMAGE_COUNT}`, imageCount);
  if (violations.length > 0) throw invalidFields(violations);
  refuseUnsupported(generation);
  return valid;
}
