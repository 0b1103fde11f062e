import { backgroundOf, colourInside, isNamed } from "./colour.js";
import { Detector, type Detection } from "./detector.js";
import type { Picture } from "./picture.js";
import type { GenevalPrompt, PromptedScene } from "./prompts.js";
import type { Atlas } from "./renders.js";
import { scoresOf, type PromptResult, type Scores } from "./score.js";
import { TemplateJudge } from "./template-judge.js";
import { isCorrect } from "./verdict.js";

/** What each judge says of one picture. */
export interface Verdict {
  /** The benchmark's own: the trained detector, its colours confirmed by hue. */
  readonly detector: boolean;
  /** The second judge, which compares with icons. */
  readonly template: boolean;
}

/** What the judges say of a set of pictures. */
export interface Judgement {
  readonly scores: Scores;
  /** Scores by the second judge alone, and where both must agree. */
  readonly template: Scores;
  readonly both: Scores;
  /** Cohen's kappa of the two: 1 always agree, 0 as often as chance would; undefined if neither ever changes its mind. */
  readonly kappa: number | undefined;
  /** What `scores` are made of, for each prompt in order. */
  readonly results: readonly PromptResult[];
  /** For each prompt in order, for each of its pictures. */
  readonly verdicts: readonly (readonly Verdict[])[];
}

/** Prompts whose pictures are in memory at one time. */
const PROMPTS_AT_ONCE = 8;

/** Those who decide whether a picture shows what its prompt asks for. */
export class Jury {
  readonly #detector: Detector;
  readonly #template: TemplateJudge;

  /** The caller closes it. */
  static async open(atlas: Atlas): Promise<Jury> {
    return new Jury(await Detector.open(atlas.vocabulary), new TemplateJudge(atlas));
  }

  private constructor(detector: Detector, template: TemplateJudge) {
    this.#detector = detector;
    this.#template = template;
  }

  /**
   * Judge pictures of prompts.
   * @param picturesOf the pictures of the prompt at `place` of the prompts.
   */
  async judge(
    prompts: readonly PromptedScene[], picturesOf: (place: number) => Promise<readonly Picture[]>,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<Judgement> {
    const verdicts: Verdict[][] = [];
    for (let first = 0; first < prompts.length; first += PROMPTS_AT_ONCE) {
      signal.throwIfAborted();
      const part = prompts.slice(first, first + PROMPTS_AT_ONCE);
      const pictures = await Promise.all(part.map((_, place) => picturesOf(first + place)));
      const detections = await this.#detector.detect(pictures.flat());
      for (const [place, { prompt }] of part.entries()) {
        verdicts.push(pictures[place]!.map((picture) => this.#verdict(prompt, picture, detections.shift()!)));
      }
    }
    return judgementOf(prompts, verdicts);
  }

  /** Free the judges. */
  async close(): Promise<void> {
    await this.#detector.close();
  }

  #verdict(prompt: GenevalPrompt, picture: Picture, detections: readonly Detection[]): Verdict {
    const background = backgroundOf(picture);
    const detector = isCorrect(prompt, detections, ({ colour, box }, asked) => (
      colour === asked && isNamed(colourInside(picture, box, background), asked)
    ));
    // What has another number of objects fails whatever their names are.
    const isCount = detections.length === prompt.include.reduce((sum, { count }) => sum + count, 0);
    return { detector, template: isCount && isCorrect(prompt, this.#template.rename(picture, detections)) };
  }
}

function judgementOf(prompts: readonly PromptedScene[], verdicts: readonly (readonly Verdict[])[]): Judgement {
  const results = (passes: (verdict: Verdict) => boolean) => prompts.map(({ prompt: { tag } }, place) => ({
    tag, images: verdicts[place]!.length, correct: verdicts[place]!.filter(passes).length,
  }));
  const own = results(({ detector }) => detector);
  return {
    scores: scoresOf(own), template: scoresOf(results(({ template }) => template)),
    both: scoresOf(results(({ detector, template }) => detector && template)), kappa: kappaOf(verdicts.flat()), results: own, verdicts,
  };
}

/** Cohen's kappa: agreement beyond what two judges with the same habits would reach by chance. */
export function kappaOf(verdicts: readonly Verdict[]): number | undefined {
  const share = (claim: (verdict: Verdict) => boolean) => verdicts.filter(claim).length / verdicts.length;
  const [first, second] = [share(({ detector }) => detector), share(({ template }) => template)];
  const chance = first * second + (1 - first) * (1 - second);
  return chance === 1 ? undefined : (share(({ detector, template }) => detector === template) - chance) / (1 - chance);
}

/** What `judge` takes, from a function that makes one picture: `images` of them for each prompt. */
export function picturesEach(
  images: number, make: (place: number, image: number) => Promise<Picture>,
): (place: number) => Promise<readonly Picture[]> {
  return (place) => Promise.all(Array.from({ length: images }, (_, image) => make(place, image)));
}
