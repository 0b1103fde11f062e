/** Most positions in one pass of one row: drafts further ahead are hardly ever right. */
export const MAX_DRAFT_WINDOW = 64;

/** A token that may come next, to be verified. */
export interface Draft {
  readonly token: number;
  /** The law it was drawn from, `[V]` probabilities; only verification by rejection needs it. */
  readonly law?: Float32Array;
}

/** What a verified window gives. */
export interface Verified {
  /** New final tokens, at least one: accepted drafts and then a correction or bonus token. */
  readonly tokens: readonly number[];
  /** Drafts for the positions behind them. */
  readonly drafts: readonly Draft[];
  /** Drafts that were judged: the accepted ones and the first wrong one, if any. */
  readonly evaluated: number;
}

/**
 * Verify by coupling: a draft is right when it equals the token that plain decoding draws at its position under the same
 * noise. The final tokens are those of plain decoding, whatever was drafted: the first draw has the true prefix, and each
 * next one has it as long as the drafts before it are right. The draws behind the first wrong draft are the next drafts
 * (Jacobi iteration).
 * @param drawn `[W]` tokens drawn from the laws of a window's positions, each with its position's noise.
 * @param drafts the W - 1 tokens that were fed behind the last final one.
 * @see Wiggers & Hoogeboom, arXiv 2002.09928; Teng et al., arXiv 2410.01699
 */
export function verifyCoupled(drawn: readonly number[], drafts: readonly Draft[]): Verified {
  let accepted = 0;
  while (accepted < drafts.length && drafts[accepted].token === drawn[accepted]) accepted++;
  return {
    tokens: drawn.slice(0, accepted + 1),
    drafts: drawn.slice(accepted + 1).map((token) => ({ token })),
    evaluated: Math.min(drafts.length, accepted + 1),
  };
}

/** The probability with which a draft is accepted: min(1, target / draft). */
export function acceptProbability(targetLaw: Float32Array, { token, law }: Draft): number {
  const target = targetLaw[token];
  const draft = law?.[token] ?? 0;
  return draft > 0 ? Math.min(1, target / draft) : 0;
}

/**
 * Draw what takes a rejected draft's place, from `max(0, target - draft)` made a law; from the target when nothing is
 * left of that, which only rounding can bring about.
 */
export function drawCorrection(targetLaw: Float32Array, draftLaw: Float32Array, uniform: number): number {
  const residual = targetLaw.map((p, v) => Math.max(0, p - draftLaw[v]));
  return drawFrom(residual.some((p) => p > 0) ? residual : targetLaw, uniform);
}

/** The token at `uniform` of a cumulated law, which need not be normalised. */
export function drawFrom(law: Float32Array, uniform: number): number {
  let total = 0;
  for (let v = 0; v < law.length; v++) total += law[v];
  let rest = uniform * total;
  let last = 0;
  for (let v = 0; v < law.length; v++) {
    if (law[v] === 0) continue;
    last = v;
    rest -= law[v];
    if (rest < 0) break;
  }
  return last;
}

/**
 * Verify by rejection sampling: each draft is accepted with probability min(1, target / draft) and else replaced by a
 * draw from the residual. Every final token has its target law, given those before it. Behind the first rejection the same
 * step turns each draft into one of the newer law; its law is the newer one from then on, whether it was kept or not:
 * forgetting that would bias the tokens.
 * @param laws `[W][V]` probabilities of the window's positions. @param drafts the W - 1 that were fed.
 * @param uniforms `[W][2]` numbers in (0, 1) of this very pass, used for nothing else.
 * @see Leviathan et al., arXiv 2211.17192; Teng et al., arXiv 2410.01699; arXiv 2510.24211 (keeping drafts by maximal coupling)
 */
export function verifyByRejection(
  laws: readonly Float32Array[], drafts: readonly Draft[], uniforms: readonly (readonly [number, number])[],
): Verified {
  const tokens: number[] = [];
  const next: Draft[] = [];
  let evaluated = 0;
  let isPrefixTrue = true;
  for (const [j, law] of laws.entries()) {
    const draft = drafts[j];
    const [accept, draw] = uniforms[j];
    const isKept = draft !== undefined && accept < acceptProbability(law, draft);
    const token = isKept ? draft.token : draft?.law ? drawCorrection(law, draft.law, draw) : drawFrom(law, draw);
    if (isPrefixTrue) {
      tokens.push(token);
      if (draft !== undefined) evaluated++;
    } else next.push({ token, law });
    isPrefixTrue &&= isKept;
  }
  return { tokens, drafts: next, evaluated };
}
