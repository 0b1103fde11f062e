import { jumpAfter } from "#libs/flow/schedule.js";
import type { Fields } from "#libs/json/fields.js";
import {
  checkRules, fileRules, finished, imageRules, parseGraph, parseHead, parseImageSize, parseTail, WEIGHT_TYPES, type Rule,
} from "./parse-sections.js";
import type { GuidanceDefaults, LatentSection, StageManifest, StageSection, StageTransformerSection } from "./stage-manifest.js";

/** Noise shares and times come from closed forms; what is stored may be rounded to float32. */
const TOLERANCE = 1e-6;

/** The manifest of a stage-wise model. @throws mismatch naming the field, its rule and its value. */
export function parseStageManifest(fields: Fields): StageManifest {
  const manifest: StageManifest = {
    ...parseHead(fields, "ecar"),
    image: finished(fields.object("image"), parseImageSize),
    latent: finished(fields.object("latent"), parseLatent),
    stages: fields.objects("stages").map((stage) => finished(stage, parseStage)),
    transformer: finished(fields.object("transformer"), parseStageTransformer),
    flowHead: finished(fields.object("flowHead"), parseGraph),
    decoder: finished(fields.object("decoder"), parseGraph),
    defaults: finished(fields.object("defaults"), parseGuidanceDefaults),
    ...parseTail(fields),
  };
  checkTogether(fields, manifest);
  return manifest;
}

/** The range that a request's guidance must keep too. */
export function parseGuidanceDefaults(fields: Fields): GuidanceDefaults {
  return { guidanceScale: fields.number("guidanceScale", 1, 100) };
}

function parseLatent(fields: Fields): LatentSection {
  const channels = fields.integer("channels", 1);
  const perChannel = (name: string): readonly number[] => {
    const values = fields.numbers(name);
    if (values.length !== channels) throw fields.refuse(name, `${channels} numbers, one for each channel`, values);
    return values;
  };
  const [mean, scale] = [perChannel("mean"), perChannel("scale")];
  if (scale.some((value) => value <= 0)) throw fields.refuse("scale", "numbers > 0", scale);
  return { channels, mean, scale };
}

function parseStage(fields: Fields): StageSection {
  return {
    height: fields.integer("height", 1),
    width: fields.integer("width", 1),
    startNoise: fields.number("startNoise", 0, 1),
    endNoise: fields.number("endNoise", 0, 1),
    startTime: fields.number("startTime", 0, 1),
    endTime: fields.number("endTime", 0, 1),
    steps: fields.integer("steps", 1, 1000),
    guidanceShare: fields.number("guidanceShare", 0, 1),
  };
}

function parseStageTransformer(fields: Fields): StageTransformerSection {
  return {
    file: fields.string("file"),
    weights: fields.oneOf("weights", WEIGHT_TYPES),
    layers: fields.integer("layers", 1),
    hiddenSize: fields.integer("hiddenSize", 1),
    heads: fields.integer("heads", 1),
    keyValueHeads: fields.integer("keyValueHeads", 1),
    headSize: fields.integer("headSize", 2),
    textPlaces: fields.integer("textPlaces", 1),
    tokenMapChannels: fields.integer("tokenMapChannels", 1),
  };
}

function checkTogether(fields: Fields, { text, image, stages, transformer, flowHead, decoder, files }: StageManifest): void {
  const { heads, keyValueHeads, textPlaces } = transformer;
  const last = stages.at(-1)!;
  checkRules(fields, [
    ...imageRules(image),
    ...stages.flatMap((stage, index) => stageRules(stage, index, stages[index - 1])),
    ["image.gridHeight", last.height === image.gridHeight, "the last stage's height", image.gridHeight],
    ["image.gridWidth", last.width === image.gridWidth, "the last stage's width", image.gridWidth],
    [`stages[${stages.length - 1}].endNoise`, last.endNoise === 0, "0 at the last stage", last.endNoise],
    [`stages[${stages.length - 1}].endTime`, isNear(last.endTime, 1), "1 at the last stage", last.endTime],
    ["transformer.textPlaces", text.maxPromptTokens <= textPlaces, "at least text.maxPromptTokens", textPlaces],
    ["transformer.keyValueHeads", heads % keyValueHeads === 0, "a divisor of transformer.heads", keyValueHeads],
    ...fileRules(files, [transformer, flowHead, decoder]),
  ]);
}

/** A stage goes on where the one before it has jumped to, and takes noise away. */
function stageRules(stage: StageSection, index: number, before: StageSection | undefined): readonly Rule[] {
  const name = `stages[${index}]`;
  const startNoise = before === undefined ? 1 : jumpAfter(before.endNoise).startNoise;
  const startTime = before?.endTime ?? 0;
  return [
    [`${name}.height`, before === undefined || stage.height === 2 * before.height, "twice the stage's before", stage.height],
    [`${name}.width`, before === undefined || stage.width === 2 * before.width, "twice the stage's before", stage.width],
    [`${name}.startNoise`, isNear(stage.startNoise, startNoise), `${startNoise}, as the jump leaves it`, stage.startNoise],
    [`${name}.endNoise`, stage.endNoise < stage.startNoise, "below startNoise", stage.endNoise],
    [`${name}.startTime`, isNear(stage.startTime, startTime), `${startTime}, where the stage before ends`, stage.startTime],
    [`${name}.endTime`, stage.endTime > stage.startTime, "above startTime", stage.endTime],
  ];
}

function isNear(value: number, expected: number): boolean {
  return Math.abs(value - expected) <= TOLERANCE;
}
