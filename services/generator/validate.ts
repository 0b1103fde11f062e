import { randomBytes } from "node:crypto";
import type { TokenManifest } from "#libs/bundle/manifest.js";
import { invalidFields, type FieldViolation } from "#libs/errors/errors.js";
import { type Generation, Priority as WirePriority, Verification as WireVerification } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import { MAX_IMAGE_COUNT } from "#libs/rpc/limits.js";
import type {
  GenerationRequest, ImageRequest, Priority, SpeculationSettings, Verification,
} from "./engine/generation.js";
import { MAX_DRAFT_WINDOW } from "./engine/speculative.js";

/** A smaller temperature counts as 0. */
const MIN_TEMPERATURE = 1e-5;

/** A generation whose every field is in range, with defaults filled in. */
export interface ValidGeneration extends Omit<GenerationRequest, "promptTokens" | "negativePromptTokens" | "deadline"> {
  readonly prompt: string;
  /** Undefined: the bundle's unconditional prompt. */
  readonly negativePrompt: string | undefined;
}

/** The engine's name of each priority of the wire. */
export const PRIORITIES: Readonly<Record<WirePriority, Priority>> = {
  [WirePriority.UNSPECIFIED]: "normal", [WirePriority.LOW]: "low", [WirePriority.NORMAL]: "normal", [WirePriority.HIGH]: "high",
};

const VERIFICATIONS: Readonly<Record<WireVerification, Verification>> = {
  [WireVerification.UNSPECIFIED]: "coupled", [WireVerification.COUPLED]: "coupled", [WireVerification.REJECTION]: "rejection",
};

/** Collects what is wrong, field by field. */
export type Check = (field: string, fits: boolean, rule: string, value: unknown) => void;

function imagesOf({ imageCount, prefixes }: Generation): readonly ImageRequest[] {
  const prefixOf = new Map(prefixes.map(({ imageIndex, tokens }) => [imageIndex, tokens]));
  return Array.from({ length: Math.min(imageCount || 1, MAX_IMAGE_COUNT) }, (_, imageIndex) => (
    { imageIndex, prefix: prefixOf.get(imageIndex) ?? [] }
  ));
}

function speculationOf({ speculation }: Generation): SpeculationSettings {
  const { draftWindow = 0, verification = WireVerification.UNSPECIFIED } = speculation ?? {};
  return { draftWindow: draftWindow === 0 ? "auto" : draftWindow, verification: VERIFICATIONS[verification] };
}

function checkPrefixes({ prefixes, imageCount }: Generation, { image }: TokenManifest, check: Check): void {
  const seen = new Set<number>();
  const total = image.gridHeight * image.gridWidth;
  for (const [i, { imageIndex, tokens }] of prefixes.entries()) {
    const field = `prefixes[${i}]`;
    check(`${field}.image_index`, imageIndex < (imageCount || 1), `0 .. ${(imageCount || 1) - 1}`, imageIndex);
    check(`${field}.image_index`, !seen.has(imageIndex), "named once", imageIndex);
    check(`${field}.tokens`, tokens.length < total, `fewer than ${total} tokens`, tokens.length);
    const wrong = tokens.find((token) => token >= image.codebookSize);
    check(`${field}.tokens`, wrong === undefined, `tokens of 0 .. ${image.codebookSize - 1}`, wrong);
    seen.add(imageIndex);
  }
}

function checkAll(generation: Generation, valid: ValidGeneration, manifest: TokenManifest, check: Check): void {
  const { guidanceScale, temperature, topK, topP, repetitionPenalty } = valid;
  const { codebookSize } = manifest.image;
  check("guidance_scale", guidanceScale >= 1 && guidanceScale <= 100, "1 .. 100", guidanceScale);
  check("guidance_scale", guidanceScale !== 1 || valid.negativePrompt === undefined, "over 1 for a negative prompt to steer", guidanceScale);
  check("sampling.temperature", temperature >= 0 && temperature <= 100, "0 .. 100", temperature);
  check("sampling.top_k", topK <= codebookSize, `0 .. ${codebookSize}`, topK);
  check("sampling.top_p", topP > 0 && topP <= 1, "> 0 and <= 1", topP);
  check("sampling.repetition_penalty", repetitionPenalty >= 0.01 && repetitionPenalty <= 100, "0.01 .. 100", repetitionPenalty);
  check("image_count", generation.imageCount <= MAX_IMAGE_COUNT, `0 .. ${MAX_IMAGE_COUNT}`, generation.imageCount);
  check("priority", valid.priority !== undefined, "one of the priorities", generation.priority);
  const { draftWindow, verification } = valid.speculation;
  check("speculation.draft_window", draftWindow === "auto" || draftWindow <= MAX_DRAFT_WINDOW, `0 .. ${MAX_DRAFT_WINDOW}`, draftWindow);
  check("speculation.verification", verification !== undefined, "one of the verifications", generation.speculation?.verification);
  checkPrefixes(generation, manifest, check);
}

/** Divided by less than this logits would leave the range of float32. */
function greedyIfTiny(temperature: number): number {
  return temperature > 0 && temperature < MIN_TEMPERATURE ? 0 : temperature;
}

/**
 * Parse what a request asks for. The text itself is the tokenizer's to judge, beyond being there.
 * @throws AppError "invalid-request" that names every field out of range.
 */
export function validateGeneration(generation: Generation | undefined, manifest: TokenManifest): ValidGeneration {
  if (generation === undefined) throw invalidFields([{ field: "generation", description: "must be set" }]);
  const { defaults } = manifest;
  const { sampling } = generation;
  const valid: ValidGeneration = {
    prompt: generation.prompt,
    negativePrompt: generation.negativePrompt,
    guidanceScale: generation.guidanceScale ?? defaults.guidanceScale,
    temperature: greedyIfTiny(sampling?.temperature ?? defaults.temperature),
    topK: sampling?.topK ?? defaults.topK,
    topP: sampling?.topP ?? defaults.topP,
    repetitionPenalty: sampling?.repetitionPenalty ?? 1,
    seed: generation.seed ?? randomBytes(8).readBigUInt64LE(),
    images: imagesOf(generation),
    priority: PRIORITIES[generation.priority],
    speculation: speculationOf(generation),
  };
  const violations: FieldViolation[] = [];
  if (valid.prompt === "") violations.push({ field: "generation.prompt", description: "must not be empty" });
  checkAll(generation, valid, manifest, (field, fits, rule, value) => {
    if (!fits) violations.push({ field: `generation.${field}`, description: `must be ${rule}, got ${value}` });
  });
  if (violations.length > 0) throw invalidFields(violations);
  return valid;
}
