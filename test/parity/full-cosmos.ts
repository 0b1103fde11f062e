import { measureCosmos } from "./cosmos-distance.js";
import { measureGroupNorm } from "./norm-distance.js";

const PIXEL_LIMIT = 1e-4;
const NORM_LIMIT = 1e-5;
/** Share of tokens that may round the other way. */
const TOKEN_LIMIT = 0.005;

/**
 * Hold a Cosmos tokenizer of full width to its three-dimensional PyTorch reference, and norms of the largest plane to float64.
 * @param folder what `make_cosmos_checkpoint.py DIR` wrote; about 2 GB of memory and some minutes.
 * @param report told of each comparison as it is through: the distance, and how large it may be.
 */
export async function fullCosmos(folder: string, report: (name: string, distance: number, limit: number) => void): Promise<void> {
  for (const groups of [1, 32]) {
    report(`norm of ${groups} group(s), 256 x 256 x 256`, await measureGroupNorm(256, groups, 256), NORM_LIMIT);
  }
  for (const { part, dims, distance } of await measureCosmos(folder)) {
    report(`${part} of ${dims.join(" x ")}`, distance, part === "decoder" ? PIXEL_LIMIT : TOKEN_LIMIT);
  }
}
