import { measureCosmos } from "./cosmos-distance.js";
import type { ReportCheck } from "./full-transformer.js";
import { measureGroupNorm } from "./norm-distance.js";
import { referenceFolder } from "./reference.js";

const PIXEL_LIMIT = 1e-4;
const NORM_LIMIT = 1e-5;
/** Share of tokens that may round the other way. */
const TOKEN_LIMIT = 0.005;

/**
 * Hold DV8x16x16 at its full width to its three-dimensional PyTorch reference on a random checkpoint, which is made and kept
 * on the first run, and norms of the largest plane to float64. It takes about 6 GB of memory and some minutes.
 */
export async function fullCosmos(report: ReportCheck, signal: AbortSignal): Promise<void> {
  const folder = await referenceFolder("cosmos-DV8x16x16", "make_cosmos_checkpoint.py", ["--tokenizer", "DV8x16x16"], { signal });
  for (const groups of [1, 32]) {
    report(`norm of ${groups} group(s), 256 x 256 x 256`, await measureGroupNorm(256, groups, 256), NORM_LIMIT);
  }
  for await (const { part, dims, distance } of measureCosmos(folder)) {
    signal.throwIfAborted();
    report(`${part} of ${dims.join(" x ")}`, distance, part === "decoder" ? PIXEL_LIMIT : TOKEN_LIMIT);
  }
}
