import type { DitModel } from "./dit-model.js";
import type { EcarModel } from "./ecar-model.js";
import { graphMacs } from "./graph-macs.js";

/** Multiplications for one image, codec apart. */
export interface EcarCost {
  readonly transformer: number;
  readonly flowHead: number;
  readonly total: number;
}

/** What E-CAR's gain over a baseline comes of: these multiply up to it. */
export interface Gain {
  /** The baseline evaluates its network as rarely as E-CAR its head. */
  readonly fewerEvaluations: number;
  /** It does so for the prompt alone where E-CAR is not guided; 1 where both are. */
  readonly noGuidance: number;
  /** The large network runs once a stage, a small one at every evaluation. */
  readonly smallHead: number;
  /** Early stages have few cells. */
  readonly coarseStages: number;
}

/** What is asked for: the text decides how long sequences are, guidance whether branches run twice. */
export interface CostLoad {
  readonly prompts: readonly string[];
  readonly guidanceScale: number;
}

/** Count an image of E-CAR. @param hasPyramid false: as if every stage had the last one's grid. */
export async function ecarMacs(model: EcarModel, { prompts, guidanceScale }: CostLoad, hasPyramid = true): Promise<EcarCost> {
  const { stages } = model.manifest;
  const graphs = await model.graphs();
  const branches = guidanceScale === 1 ? 1 : 2;
  const text = model.textCount(prompts);
  let [transformer, flowHead, past] = [0, 0, 0];
  for (const stage of stages) {
    const { height, width } = hasPyramid ? stage : stages.at(-1)!;
    const cells = height * width;
    const isFirst = past === 0;
    const own = isFirst ? text + cells : cells;
    const sizes = { B: 1, P: own - cells, N: cells, S: own, Q: isFirst ? own : 1, K: past + own, T: past };
    transformer += branches * await graphMacs(graphs.transformer, sizes);
    const evaluations = 2 * stage.steps * (stage.guidanceShare > 0 ? branches : 1);
    flowHead += evaluations * await graphMacs(graphs.flowHead, { B: 1, h: height, w: width, N: cells });
    past += own;
  }
  return { transformer, flowHead, total: transformer + flowHead };
}

/** Count an image of the baseline. */
export async function ditMacs(dit: DitModel, model: EcarModel, { prompts, guidanceScale }: CostLoad, evaluations: number): Promise<number> {
  const text = Math.max(...prompts.flatMap((prompt) => model.textsOf(prompt).map(({ length }) => length)));
  const cells = dit.config.side ** 2;
  const once = await graphMacs(dit.graphs.text, { B: 1, P: text });
  const each = await graphMacs(dit.graphs.step, { B: 1, N: cells, K: text + cells, T: text });
  return (guidanceScale === 1 ? 1 : 2) * (once + evaluations * each);
}

/** Split the gain over a baseline of so many multiplications. */
export function gainOf(macs: {
  readonly dit: number; readonly ditAtEqualEvaluations: number; readonly ditWithoutGuidance: number; readonly ecarWithoutPyramid: number;
  readonly ecar: number;
}): Gain {
  return {
    fewerEvaluations: macs.dit / macs.ditAtEqualEvaluations, noGuidance: macs.ditAtEqualEvaluations / macs.ditWithoutGuidance,
    smallHead: macs.ditWithoutGuidance / macs.ecarWithoutPyramid, coarseStages: macs.ecarWithoutPyramid / macs.ecar,
  };
}
