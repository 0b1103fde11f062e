import { invalidRequest } from "#libs/errors/errors.js";
import { parseFlags } from "./command.js";
import { gridFlag, integerFlag, requiredFlag } from "./flags.js";

/** What `--help` prints. */
export const INSPECT_HELP = `Write what a bundle's graphs compute, to compare with a reference.

  npm run inspect -- logits --bundle DIR --ids FILE.json --out FILE.npy [--window N]
  npm run inspect -- pixels --bundle DIR --tokens FILE.json --grid HxW --out FILE.npy

logits  teacher-forced logits over the image codebook, float32 [positions, codebook]: a row for each position from the last
        prompt token on, so row i is the law of image token i and the last row follows all tokens given
  --ids FILE      {"prompt": [text ids], "tokens": [image tokens 0 .. codebook - 1]}, or one list of the transformer's own
                  ids, in which an image token is the vocabulary's text size plus its number; the prompt ends with the last
                  text id
  --window N      positions in one run; earlier ones come from the cache (default 256)
pixels  the decoder's pixels before they are clamped to -1 .. 1, float32 [3, H, W]
  --tokens FILE   [image tokens] or {"tokens": [image tokens]}, row by row
  --grid HxW      rows and columns of image tokens, e.g. 64x64

  --bundle DIR    the model
  --out FILE      a NumPy file; replaced if it exists
  --threads N     threads inside one operator (default 1)
  --help          this text
`;

interface Shared {
  readonly bundleFolder: string;
  readonly outFile: string;
  readonly threads: number;
}

/** Teacher-forced logits. */
export interface InspectLogits extends Shared {
  readonly what: "logits";
  readonly idsFile: string;
  /** Positions in one run. */
  readonly window: number;
}

/** Pixels before clamping. */
export interface InspectPixels extends Shared {
  readonly what: "pixels";
  readonly tokensFile: string;
  /** Rows and columns of image tokens. */
  readonly grid: readonly [height: number, width: number];
}

const OPTIONS = {
  bundle: { type: "string" }, ids: { type: "string" }, tokens: { type: "string" }, grid: { type: "string" },
  out: { type: "string" }, window: { type: "string" }, threads: { type: "string" }, help: { type: "boolean", default: false },
} as const;

/** Parse the command line. @returns undefined if help is asked for. @throws invalid-request naming the flag. */
export function parseInspectOptions(args: readonly string[]): InspectLogits | InspectPixels | undefined {
  const { values, positionals } = parseFlags({ args: [...args], options: OPTIONS, strict: true, allowPositionals: true });
  if (values.help) return undefined;
  const [what, ...more] = positionals;
  if (more.length > 0 || (what !== "logits" && what !== "pixels")) {
    throw invalidRequest("what to inspect", "logits or pixels", positionals.join(" "));
  }
  for (const flag of what === "logits" ? (["tokens", "grid"] as const) : (["ids", "window"] as const)) {
    if (values[flag] !== undefined) throw invalidRequest(`--${flag}`, `left out with ${what}`);
  }
  const shared: Shared = {
    bundleFolder: requiredFlag("--bundle", values.bundle),
    outFile: requiredFlag("--out", values.out),
    threads: integerFlag("--threads", values.threads, { min: 1, max: 256 }) ?? 1,
  };
  if (what === "logits") {
    const window = integerFlag("--window", values.window, { min: 1, max: 1_000_000 }) ?? 256;
    return { what, ...shared, idsFile: requiredFlag("--ids", values.ids), window };
  }
  const grid = gridFlag("--grid", requiredFlag("--grid", values.grid));
  return { what, ...shared, tokensFile: requiredFlag("--tokens", values.tokens), grid: grid! };
}
