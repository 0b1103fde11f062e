import { latentSize } from "#libs/flow/latent.js";
import type { StageLayout, StageModel, StageOutput, StageRow } from "#services/generator/stages/stage-model.js";

/** Three stages of 1, 4 and 16 tokens of two numbers. */
export const FAKE_STAGE_LAYOUT: StageLayout = {
  latents: [1, 2, 4].map((side) => ({ channels: 1, height: side, width: side })), tokenMapChannels: 2, textPlaces: 64,
};

/** A stage-wise model whose maps tell everything that they depend on, and that waits where a test says so. */
export class FakeStageModel implements StageModel {
  readonly layout = FAKE_STAGE_LAYOUT;
  /** Stage and rows of every pass so far. */
  readonly passes: (readonly [stage: number, rows: number])[] = [];
  /** Awaited inside each pass. */
  hold: (stage: number) => Promise<void> = async () => {};

  async forward(stage: number, rows: readonly StageRow[]): Promise<readonly StageOutput[]> {
    this.passes.push([stage, rows.length]);
    await this.hold(stage);
    return rows.map(({ tokens, memory, latent }) => {
      const digest = tokens.reduce((sum, token, i) => sum + (i + 1) * token, stage) + (memory.at(-1)?.keys[0] ?? 0)
        + (latent?.values.reduce((sum, value) => sum + value, 0) ?? 0);
      const map = new Float32Array(latentSize(this.layout.latents[stage]) * this.layout.tokenMapChannels).fill(digest);
      const own = { positions: 1, keys: Float32Array.of(digest), values: Float32Array.of(digest) };
      return { tokenMap: map, memory: stage === this.layout.latents.length - 1 ? undefined : own };
    });
  }
}
