/** What a token is drawn from: unnormalised log-probabilities of all tokens, or of those that are left. */
export interface Law {
  /** Tokens of the codebook. */
  readonly codebookSize: number;
  /** The tokens that may be drawn, in ascending order; undefined for all of them. */
  readonly tokens?: Uint32Array;
  /** One for each of `tokens`, or `[codebookSize]`. */
  readonly logits: Float32Array;
}

/** Probabilities, `[codebookSize]`; 0 where nothing may be drawn. */
export function probabilities({ codebookSize, tokens, logits }: Law): Float32Array {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const all = new Float32Array(codebookSize);
  let total = 0;
  for (let i = 0; i < logits.length; i++) total += all[tokens?.[i] ?? i] = Math.exp(logits[i] - largest);
  return all.map((weight) => weight / total);
}

/** A law on a buffer of its own, for whoever wants to keep it. */
export function copyOf(law: Law): Law {
  return { ...law, logits: law.logits.slice() };
}
