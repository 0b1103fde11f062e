import { openUniform, philox4x32 } from "#libs/random/philox.js";
import { copyOf, type Law, probabilities } from "./law.js";
import { sample } from "./sampler.js";
import type { Sequence } from "./sequence.js";
import { type Draft, drawFrom, type Verified, verifyByRejection, verifyCoupled } from "./speculative.js";

/** Purposes of random words from here on are passes of verification by rejection; the noise tree uses those below. */
const FIRST_PASS_PURPOSE = 1 << 16;

/** The token that plain decoding draws at a position: a function of the law and of the position's own noise. */
function drawToken({ request, imageIndex }: Sequence, law: Law, position: number): number {
  return sample(law, { seed: request.seed, imageIndex, position });
}

/** Drafts for the next `count` positions: what the last pass left, and then draws from the last law that was seen. */
export function draftsFor(sequence: Sequence, count: number): readonly Draft[] {
  const { drafts, lastLaw, tokens } = sequence;
  const all = drafts.slice(0, count);
  if (lastLaw === undefined) return all;
  if (isCoupled(sequence)) {
    while (all.length < count) all.push({ token: drawToken(sequence, lastLaw, tokens.length + all.length) });
    return all;
  }
  const law = probabilities(lastLaw);
  while (all.length < count) {
    const [, uniform] = freshUniforms(sequence, tokens.length + all.length, 1);
    all.push({ token: drawFrom(law, uniform), law });
  }
  return all;
}

/**
 * Judge a window of drafts.
 * @param lawAt of the position at index j of the window; each is used up before the next is asked for.
 */
export function verify(sequence: Sequence, drafts: readonly Draft[], lawAt: (j: number) => Law): Verified {
  const start = sequence.tokens.length;
  const keepsLast = sequence.request.speculation.draftWindow !== 1;
  const useEach = <T>(use: (law: Law, j: number) => T) => Array.from({ length: drafts.length + 1 }, (_, j) => {
    const law = lawAt(j);
    if (j === drafts.length && keepsLast) sequence.lastLaw = copyOf(law, sequence.lastLaw);
    return use(law, j);
  });
  sequence.passes++;
  if (isCoupled(sequence)) return verifyCoupled(useEach((law, j) => drawToken(sequence, law, start + j)), drafts);
  const laws = useEach(probabilities);
  return verifyByRejection(laws, drafts, laws.map((_, j) => freshUniforms(sequence, start + j, 0)));
}

/** Rejection has nothing to reject without drafts, and nothing to reject by when the most likely token is certain. */
function isCoupled({ request: { speculation, temperature } }: Sequence): boolean {
  return speculation.verification === "coupled" || speculation.draftWindow === 1 || temperature === 0;
}

/** Two numbers in (0, 1) that no other pass, position or purpose sees. */
function freshUniforms({ request, imageIndex, passes }: Sequence, position: number, half: 0 | 1): readonly [number, number] {
  const words = new Uint32Array(4);
  const { seed } = request;
  const key = [Number(seed & 0xffffffffn), Number((seed >> 32n) & 0xffffffffn)] as const;
  philox4x32(passes, position, imageIndex, FIRST_PASS_PURPOSE, ...key, words);
  return [openUniform(words[2 * half]), openUniform(words[2 * half + 1])];
}
