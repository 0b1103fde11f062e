import { randomBytes } from "node:crypto";
import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { invalidFields, type FieldViolation } from "#libs/errors/errors.js";
import { latentSize, type Latent, type LatentShape } from "#libs/flow/latent.js";
import type { StageLatent } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import type { Generation } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import { floatsOfBytes } from "#libs/tensor/float-bytes.js";
import type { Prompts } from "./encode-prompts.js";
import type { StageRequest } from "./stages/stage-generation.js";
import { PRIORITIES } from "./validate.js";

/** A generation of continuous tokens whose every field is in range, with defaults filled in. */
export interface ValidStageGeneration extends Prompts, Pick<StageRequest, "guidanceScale" | "imageCount" | "priority"> {
  /** 64 bits; the flow's, not ours. */
  readonly seed: bigint;
}

/**
 * Parse what a request asks for. The text itself is the tokenizer's to judge, beyond being there.
 * @throws AppError "invalid-request" that names every field out of range, or without a meaning for continuous tokens.
 */
export function validateStageGeneration(generation: Generation | undefined, { defaults }: StageManifest): ValidStageGeneration {
  if (generation === undefined) throw invalidFields([{ field: "generation", description: "must be set" }]);
  const { prompt, negativePrompt, sampling, prefixes, speculation } = generation;
  const violations: FieldViolation[] = [];
  const check = (field: string, fits: boolean, rule: string): void => {
    if (!fits) violations.push({ field: `generation.${field}`, description: `must ${rule}` });
  };
  const guidanceScale = generation.guidanceScale ?? defaults.guidanceScale;
  const priority = PRIORITIES[generation.priority];
  check("prompt", prompt !== "", "not be empty");
  check("guidance_scale", guidanceScale >= 1 && guidanceScale <= 100, `be 1 .. 100, got ${guidanceScale}`);
  check("guidance_scale", guidanceScale !== 1 || negativePrompt === undefined, `be over 1 for a negative prompt to steer, got ${guidanceScale}`);
  check("image_count", generation.imageCount <= MAX_IMAGE_COUNT, `be 0 .. ${MAX_IMAGE_COUNT}, got ${generation.imageCount}`);
  check("priority", priority !== undefined, `be one of the priorities, got ${generation.priority}`);
  const hasNone = "be left out: the loaded model has continuous tokens";
  check("sampling.temperature", sampling?.temperature === undefined, hasNone);
  check("sampling.top_k", sampling?.topK === undefined, hasNone);
  check("sampling.top_p", sampling?.topP === undefined, hasNone);
  check("sampling.repetition_penalty", sampling?.repetitionPenalty === undefined, hasNone);
  check("prefixes", prefixes.length === 0, hasNone);
  check("speculation.draft_window", !speculation?.draftWindow, hasNone);
  if (violations.length > 0) throw invalidFields(violations);
  const seed = generation.seed ?? randomBytes(8).readBigUInt64LE();
  return { prompt, negativePrompt, guidanceScale, imageCount: generation.imageCount || 1, priority, seed };
}

/** What an image awaits. */
export interface AwaitedLatent {
  readonly stage: number;
  readonly shape: LatentShape;
}

/**
 * Parse a latent.
 * @param awaited what its image awaits; undefined for nothing.
 * @throws AppError "invalid-request" that names every field that is not as awaited.
 */
export function validateLatent(latent: StageLatent, imageCount: number, awaited: AwaitedLatent | undefined): Latent {
  const violations: FieldViolation[] = [];
  const check = (field: string, fits: boolean, rule: string, value: unknown): void => {
    if (!fits) violations.push({ field: `latent.${field}`, description: `must be ${rule}, got ${value}` });
  };
  const { imageIndex, stage, height, width, channels, values } = latent;
  check("image_index", imageIndex < imageCount, `0 .. ${imageCount - 1}`, imageIndex);
  if (violations.length === 0) check("stage", awaited !== undefined, "of the last map sent, each once", stage);
  if (awaited === undefined) throw invalidFields(violations);
  const { shape } = awaited;
  check("stage", stage === awaited.stage, `${awaited.stage}, that of the last map`, stage);
  check("height", height === shape.height, `${shape.height}`, height);
  check("width", width === shape.width, `${shape.width}`, width);
  check("channels", channels === shape.channels, `${shape.channels}`, channels);
  const bytes = 4 * latentSize(shape);
  check("values", values.length === bytes, `${bytes} bytes, one float32 a number`, `${values.length} bytes`);
  if (violations.length > 0) throw invalidFields(violations);
  const numbers = floatsOfBytes(values);
  const wrong = numbers.findIndex((value) => !Number.isFinite(value));
  check(`values[${wrong}]`, wrong < 0, "a finite number", numbers[wrong]);
  if (violations.length > 0) throw invalidFields(violations);
  return { ...shape, values: numbers };
}
