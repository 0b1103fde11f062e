import { observe, recordAmount, recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS } from "#libs/telemetry/names.js";
import type { ThreadEngine } from "./engine/thread-engine.js";
import type { StageEngine } from "./stages/stage-engine.js";

/** Report how an engine stands and what its passes take. Call it once a process, after telemetry has started. */
export function reportEngine(engine: ThreadEngine): void {
  observe(METRICS.queueLength, () => engine.snapshot.waiting);
  observe(METRICS.queueTokens, () => engine.snapshot.waitingTokens);
  observe(METRICS.imagesInflight, () => engine.snapshot.running);
  observe(METRICS.kvSlotsUsed, () => engine.snapshot.slots.reserved);
  observe(METRICS.kvSlotsTotal, () => engine.snapshot.slots.total);
  observe(METRICS.kvCacheUsage, () => engine.snapshot.filledPositions / engine.snapshot.maxPositions);
  engine.onPasses((passes) => {
    for (const { phase, rows, ms } of passes) {
      recordDuration(METRICS.stepTime, ms, { [ATTRIBUTES.phase]: phase });
      recordAmount(METRICS.batchRows, rows);
    }
  });
  engine.onRelease((ms) => recordDuration(METRICS.cancelRelease, ms));
}

/** The same of a stage engine, whose images have one slot each; the first stage's pass is the one over the prompts. */
export function reportStageEngine(engine: StageEngine, maxRunning: number): void {
  observe(METRICS.queueLength, () => engine.snapshot.waiting);
  observe(METRICS.queueTokens, () => engine.snapshot.waitingTokens);
  observe(METRICS.imagesInflight, () => engine.snapshot.running);
  observe(METRICS.kvSlotsUsed, () => engine.snapshot.running);
  observe(METRICS.kvSlotsTotal, () => maxRunning);
  observe(METRICS.kvCacheUsage, () => engine.snapshot.running / maxRunning);
  engine.onPass(({ stage, rows, ms }) => {
    recordDuration(METRICS.stepTime, ms, { [ATTRIBUTES.phase]: stage === 0 ? "prefill" : "decode" });
    recordAmount(METRICS.batchRows, rows);
  });
}
