/** What a token is drawn from: unnormalised log-probabilities, of which the small ones may be out of reach. */
export interface Law {
  /** `[V]`, for every token of the codebook. */
  readonly logits: Float32Array;
  /** The largest logit of each `FAN_OUT` tokens, those under one node of the noise, `[ceil(V / FAN_OUT)]`. */
  readonly tops: Float32Array;
  /** Tokens of a smaller logit are not drawn. */
  readonly floor: number;
  /** Of the tokens whose logit is `floor` exactly, those with a larger id are not drawn. */
  readonly lastTie: number;
}

/** Whether a token may be drawn. */
export function isAllowed({ logits, floor, lastTie }: Law, token: number): boolean {
  const logit = logits[token];
  return logit > floor || (logit === floor && token <= lastTie && logit > -Infinity);
}

/** Probabilities, `[V]`; 0 where nothing may be drawn. */
export function probabilities(law: Law): Float32Array {
  const largest = law.tops.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = law.logits.map((logit, token) => (isAllowed(law, token) ? Math.exp(logit - largest) : 0));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** A law on buffers of its own, for whoever wants to keep it. @param used a law that was kept so and is given up: its buffers serve again. */
export function copyOf({ logits, tops, floor, lastTie }: Law, used?: Law): Law {
  if (used === undefined) return { logits: logits.slice(), tops: tops.slice(), floor, lastTie };
  used.logits.set(logits);
  used.tops.set(tops);
  return { ...used, floor, lastTie };
}
