import type { Bundle } from "#libs/bundle/bundle.js";
import type { Generation, GenerationSettings } from "#libs/rpc/gen/tessera/v1/types_pb.js";
import type { PngText } from "./png-text.js";

/** What is written into every PNG: which program and which model made it. */
export function modelTexts({ manifest, digest }: Pick<Bundle, "manifest" | "digest">): readonly PngText[] {
  return [{ keyword: "Software", text: "Tessera" }, { keyword: "Model", text: `${manifest.name} ${digest}` }];
}

/**
 * What makes an image again: its seed, its index and the settings in force, as JSON with the names of the .proto file.
 * @param prefixLength tokens that the image was continued from; with another seed it takes them too to make it again.
 */
export function settingsTexts(settings: GenerationSettings, imageIndex: number, prefixLength: number): readonly PngText[] {
  const { guidanceScale, temperature, topK, topP, repetitionPenalty, seed } = settings;
  const values = {
    guidance_scale: shortest(guidanceScale), temperature: shortest(temperature), top_k: topK, top_p: shortest(topP),
    repetition_penalty: shortest(repetitionPenalty), image_index: imageIndex, ...(prefixLength > 0 && { prefix_tokens: prefixLength }),
  };
  return [{ keyword: "Seed", text: String(seed) }, { keyword: "Settings", text: JSON.stringify(values) }];
}

/** The same of a model with continuous tokens, of which none is drawn by itself. */
export function stageSettingsTexts({ guidanceScale, seed }: GenerationSettings, imageIndex: number): readonly PngText[] {
  const values = { guidance_scale: shortest(guidanceScale), image_index: imageIndex };
  return [{ keyword: "Seed", text: String(seed) }, { keyword: "Settings", text: JSON.stringify(values) }];
}

/** The prompts, for whoever asked to have them in the file. */
export function promptTexts({ prompt, negativePrompt }: Pick<Generation, "prompt" | "negativePrompt">): readonly PngText[] {
  const texts = [{ keyword: "Description", text: prompt }];
  return negativePrompt === undefined ? texts : [...texts, { keyword: "Negative prompt", text: negativePrompt }];
}

/** A float32 as people wrote it: 0.9, not 0.8999999761581421. */
function shortest(value: number): number {
  return Number(value.toPrecision(7));
}
