import type { AppError } from "#libs/errors/errors.js";
import type { Engine } from "#services/generator/engine/engine.js";
import type { GenerationEvent, GenerationRequest, GenerationTimings } from "#services/generator/engine/generation.js";

/** A small request; tests change what they are about. */
export const REQUEST: GenerationRequest = {
  promptTokens: [1, 2, 3], negativePromptTokens: [1, 3], guidanceScale: 2, temperature: 1, topK: 0, topP: 1, repetitionPenalty: 1, seed: 7n,
  images: [{ imageIndex: 0, prefix: [] }], priority: "normal", speculation: { draftWindow: 1, verification: "coupled" },
  deadline: Infinity,
};

/** What an engine has done with one request so far. */
export class Heard {
  readonly events: GenerationEvent[] = [];
  id = -1;
  isEnded = false;
  error: AppError | undefined;

  /** The tokens of each image that came in order and without gaps. */
  tokens(imageIndex = 0): readonly number[] {
    const all: number[] = [];
    for (const event of this.events) {
      if (event.type !== "tokens" || event.imageIndex !== imageIndex) continue;
      if (all.length > 0 && event.offset !== this.#offset + all.length) throw new Error(`a gap before ${event.offset}`);
      if (all.length === 0) this.#offset = event.offset;
      all.push(...event.tokens);
    }
    return all;
  }

  #offset = 0;

  timings(imageIndex = 0): GenerationTimings {
    const finished = this.events.find((event) => event.type === "finished" && event.imageIndex === imageIndex);
    if (finished?.type !== "finished") throw new Error(`image ${imageIndex} is not finished`);
    return finished.timings;
  }
}

/** Hand a request in and keep what is heard of it. */
export function submit(engine: Engine, change: Partial<GenerationRequest> = {}): Heard {
  const heard = new Heard();
  heard.id = engine.submit({ ...REQUEST, ...change }, {
    event: (event) => heard.events.push(event),
    ended: (error) => {
      heard.isEnded = true;
      heard.error = error;
    },
  });
  return heard;
}

/** Step until nothing is left. @throws if the books are wrong at the end, or it does not end. */
export async function runToIdle(engine: Engine, maxSteps = 10_000): Promise<number> {
  let steps = 0;
  for (; !engine.isIdle; steps++) {
    if (steps === maxSteps) throw new Error(`the engine still works after ${steps} steps`);
    await engine.step();
  }
  const problems = engine.checkInvariants();
  if (problems.length > 0) throw new Error(problems.join("; "));
  return steps;
}
